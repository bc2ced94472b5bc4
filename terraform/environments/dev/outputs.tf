output "workspace_id" {
  description = "Where the Astro CLI looks for the deployment."
  value       = module.astro.workspace_id
}

output "deployment_id" {
  description = "What the Astro CLI and the workflows deploy to."
  value       = module.astro.deployment_id
}

output "deployment_url" {
  description = "Airflow's UI."
  value       = module.astro.deployment_url
}

output "database_endpoint" {
  description = "Host and port of the database."
  value       = module.database.endpoint
}

output "report_bucket" {
  description = "Where the quality report is written."
  value       = module.storage.report_bucket
}

output "xcom_bucket" {
  description = "Where values between tasks are."
  value       = module.storage.xcom_bucket
}

output "role_arns" {
  description = "For AWS_ROLE_ARN of the environments in GitHub: plan, drift and deploy."
  value       = module.ci_role.role_arns
}

output "region" {
  description = "For AWS_REGION of the environments in GitHub."
  value       = var.region
}

output "network" {
  description = "For Astronomer, to open a peering with it."
  value       = merge({ region = var.region, cidr = var.network_cidr }, module.network.peer)
}
