output "admin_password" {
  description = "The admin password of the database, as stored in the secret."
  value       = local.passwords.admin
  sensitive   = true
  ephemeral   = true
}

output "passwords_written" {
  description = "A different number each time the passwords are written."
  value       = local.passwords_written
}

output "connections_prefix" {
  description = "Prefix under which the secrets backend of Airflow finds connections."
  value       = "${var.name}/connections"
}

output "variables_prefix" {
  description = "Prefix under which the secrets backend of Airflow finds variables."
  value       = "${var.name}/variables"
}

output "secret_arns" {
  description = "ARN patterns of the secrets that Airflow may read: all connections and variables, including those added by hand."
  value = [
    for kind in ["connections", "variables"] :
    replace(aws_secretsmanager_secret.passwords.arn, "/:${var.name}/passwords-.*$/", ":${var.name}/${kind}/*")
  ]
}

output "key_arn" {
  description = "ARN of the KMS key that encrypts the secrets."
  value       = aws_kms_key.this.arn
}
