output "role_arns" {
  description = "ARNs of the roles by name: plan, drift and deploy."
  value       = { for key, role in aws_iam_role.this : key => role.arn }
}

output "airflow_boundary_arn" {
  description = "ARN of the permissions boundary of the Airflow role: the most that it can be granted."
  value       = aws_iam_policy.airflow_boundary.arn
}
