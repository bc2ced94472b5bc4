output "vpc_id" {
  description = "Id of the VPC."
  value       = aws_vpc.this.id
}

output "subnet_ids" {
  description = "Ids of the subnets, one per zone. Available after their routes exist."
  value       = [for zone in var.availability_zones : aws_subnet.this[zone].id]
  depends_on  = [aws_route_table_association.this, aws_route.internet, aws_route.astro]
}

output "peer" {
  description = "What Astronomer needs to open a VPC peering: account and VPC."
  value       = { account = aws_vpc.this.owner_id, vpc_id = aws_vpc.this.id }
}
