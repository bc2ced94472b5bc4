output "state_bucket" {
  description = "For backend.hcl of the environments."
  value       = aws_s3_bucket.state.id
}

output "region" {
  description = "For backend.hcl of the environments."
  value       = var.region
}
