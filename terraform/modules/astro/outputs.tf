output "workspace_id" {
  description = "The Astro workspace of the deployment, for the Astro CLI."
  value       = astro_workspace.this.id
}

output "deployment_id" {
  description = "The Astro deployment that the Astro CLI and the workflows deploy to."
  value       = astro_deployment.this.id
}

output "deployment_url" {
  description = "Address of the Airflow UI."
  value       = "https://${trimprefix(astro_deployment.this.webserver_url, "https://")}"
}

output "external_cidrs" {
  description = "Address ranges that the deployment connects from."
  value       = [for ip in sort(astro_deployment.this.external_ips) : strcontains(ip, "/") ? ip : "${ip}/32"]
}
