output "role_arns" {
  description = "By name: plan, drift and deploy."
  value       = { for key, role in aws_iam_role.this : key => role.arn }
}
