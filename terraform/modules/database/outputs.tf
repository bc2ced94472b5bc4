output "address" {
  description = "Host name of the database."
  value       = aws_db_instance.this.address
}

output "endpoint" {
  description = "Host name and port of the database."
  value       = aws_db_instance.this.endpoint
}

output "port" {
  description = "Port of the database."
  value       = aws_db_instance.this.port
}
