output "state_bucket" {
  description = "The state bucket, for backend.hcl of the environments."
  value       = aws_s3_bucket.state.id
}

output "region" {
  description = "The region of the state bucket, for backend.hcl of the environments."
  value       = var.region
}
