output "report_bucket" {
  description = "Name of the bucket of reports."
  value       = aws_s3_bucket.this["reports"].id
}

output "xcom_bucket" {
  description = "Name of the bucket of values between tasks."
  value       = aws_s3_bucket.this["xcom"].id
}

output "bucket_arns" {
  description = "What Airflow reads and writes."
  value       = [aws_s3_bucket.this["reports"].arn, aws_s3_bucket.this["xcom"].arn]
}

output "key_arn" {
  description = "The key that both are encrypted with."
  value       = aws_kms_key.this.arn
}
