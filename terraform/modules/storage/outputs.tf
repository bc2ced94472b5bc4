output "report_bucket" {
  description = "Name of the bucket of reports."
  value       = aws_s3_bucket.this["reports"].id
}

output "xcom_bucket" {
  description = "Name of the bucket of values between tasks (XCom)."
  value       = aws_s3_bucket.this["xcom"].id
}

output "export_bucket" {
  description = "Name of the bucket of exports."
  value       = aws_s3_bucket.this["exports"].id
}

output "bucket_arns" {
  description = "ARNs of the buckets that Airflow reads and writes."
  value       = [for key in ["reports", "xcom", "exports"] : aws_s3_bucket.this[key].arn]
}

output "key_arn" {
  description = "ARN of the KMS key that encrypts them."
  value       = aws_kms_key.this.arn
}
