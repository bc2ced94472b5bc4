output "workspace_id" {
  description = "The Astro workspace of the deployment, for the Astro CLI."
  value       = module.astro.workspace_id
}

output "deployment_id" {
  description = "The Astro deployment that the Astro CLI and the workflows deploy to."
  value       = module.astro.deployment_id
}

output "deployment_url" {
  description = "Address of the Airflow UI."
  value       = module.astro.deployment_url
}

output "database_endpoint" {
  description = "Host and port of the database."
  value       = module.database.endpoint
}

output "report_bucket" {
  description = "Bucket of the quality report."
  value       = module.storage.report_bucket
}

output "xcom_bucket" {
  description = "Bucket of values between tasks (XCom)."
  value       = module.storage.xcom_bucket
}

output "export_bucket" {
  description = "Bucket of exports."
  value       = module.storage.export_bucket
}

output "role_arns" {
  description = "ARNs of the roles plan, drift and deploy, for AWS_ROLE_ARN of the GitHub environments."
  value       = module.ci_role.role_arns
}

output "region" {
  description = "The AWS region, for AWS_REGION of the GitHub environments."
  value       = var.region
}

output "network" {
  description = "What Astronomer needs to open a VPC peering: region, range, account and VPC."
  value       = merge({ region = var.region, cidr = var.network_cidr }, module.network.peer)
}
