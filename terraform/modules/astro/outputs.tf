output "workspace_id" {
  description = "Where the Astro CLI looks for the deployment."
  value       = astro_workspace.this.id
}

output "deployment_id" {
  description = "What the Astro CLI and the workflows deploy to."
  value       = astro_deployment.this.id
}

output "deployment_url" {
  description = "Airflow's UI."
  value       = "https://${trimprefix(astro_deployment.this.webserver_url, "https://")}"
}

output "external_cidrs" {
  description = "The addresses that the deployment comes from, as ranges."
  value       = [for ip in sort(astro_deployment.this.external_ips) : strcontains(ip, "/") ? ip : "${ip}/32"]
}
