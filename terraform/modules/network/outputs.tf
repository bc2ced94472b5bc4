output "vpc_id" {
  description = "The network."
  value       = aws_vpc.this.id
}

output "subnet_ids" {
  description = "A subnet a zone; ready once they have their routes."
  value       = [for zone in var.availability_zones : aws_subnet.this[zone].id]
  depends_on  = [aws_route_table_association.this, aws_route.internet, aws_route.astro]
}

output "peer" {
  description = "What Astronomer asks for to open a peering: account and network."
  value       = { account = aws_vpc.this.owner_id, vpc_id = aws_vpc.this.id }
}
