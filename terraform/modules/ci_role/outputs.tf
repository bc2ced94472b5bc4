output "role_arns" {
  description = "By name: plan, drift and deploy."
  value       = { for key, role in aws_iam_role.this : key => role.arn }
}

output "airflow_boundary_arn" {
  description = "What the role of Airflow can be given at most: its permissions boundary."
  value       = aws_iam_policy.airflow_boundary.arn
}
