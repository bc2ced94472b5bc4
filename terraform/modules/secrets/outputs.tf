output "admin_password" {
  description = "The database's admin password, as it lies in the secret."
  value       = local.passwords.admin
  sensitive   = true
  ephemeral   = true
}

output "passwords_written" {
  description = "Another number whenever the passwords were written anew."
  value       = local.passwords_written
}

output "connections_prefix" {
  description = "Under which Airflow's secrets backend finds connections."
  value       = "${var.name}/connections"
}

output "variables_prefix" {
  description = "Under which Airflow's secrets backend finds variables."
  value       = "${var.name}/variables"
}

output "secret_arns" {
  description = "What Airflow may read: connections and variables, those too that are added by hand under these names."
  value = [
    for kind in ["connections", "variables"] :
    replace(aws_secretsmanager_secret.passwords.arn, "/:${var.name}/passwords-.*$/", ":${var.name}/${kind}/*")
  ]
}

output "key_arn" {
  description = "The key that the secrets are encrypted with."
  value       = aws_kms_key.this.arn
}
