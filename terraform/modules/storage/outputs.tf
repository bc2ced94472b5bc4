output "report_bucket" {
  description = "Name of the bucket of reports."
  value       = aws_s3_bucket.this["reports"].id
}

output "xcom_bucket" {
  description = "Name of the bucket of values between tasks (XCom)."
  value       = aws_s3_bucket.this["xcom"].id
}

output "bucket_arns" {
  description = "ARNs of the buckets that Airflow reads and writes."
  value       = [aws_s3_bucket.this["reports"].arn, aws_s3_bucket.this["xcom"].arn]
}

output "key_arn" {
  description = "ARN of the KMS key that encrypts both."
  value       = aws_kms_key.this.arn
}
