# A network for the database only.
locals {
  # Each zone gets one eighth of the range, by its letter, so a change of the list of zones moves no other subnet.
  subnets = { for zone in var.availability_zones : zone => cidrsubnet(var.cidr, 3, index(local.letters, substr(zone, -1, 1))) }
  letters = ["a", "b", "c", "d", "e", "f", "g", "h"]
}

resource "aws_vpc" "this" {
  # checkov:skip=CKV2_AWS_11: the database log shows who connected; flow logs for one database would only add costs
  cidr_block           = var.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true

  tags = { Name = var.name }
}

# The default group of the VPC, without rules: a resource that names no group can reach nothing.
resource "aws_default_security_group" "this" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-unused" }
}

resource "aws_subnet" "this" {
  for_each = local.subnets

  vpc_id            = aws_vpc.this.id
  cidr_block        = each.value
  availability_zone = each.key

  tags = { Name = "${var.name}-${each.key}" }
}

resource "aws_route_table" "this" {
  vpc_id = aws_vpc.this.id

  tags = { Name = var.name }
}

resource "aws_route_table_association" "this" {
  for_each = aws_subnet.this

  subnet_id      = each.value.id
  route_table_id = aws_route_table.this.id
}

# A STANDARD deployment runs in shared clusters of Astronomer and connects over the internet.
resource "aws_internet_gateway" "this" {
  count = var.internet_access ? 1 : 0

  vpc_id = aws_vpc.this.id

  tags = { Name = var.name }

  # Removed last: AWS refuses while the database still has its public address.
  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_route" "internet" {
  count = var.internet_access ? 1 : 0

  route_table_id         = aws_route_table.this.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this[0].id

  lifecycle {
    create_before_destroy = true
  }
}

# A DEDICATED cluster connects over a VPC peering. Astronomer opens it; this accepts it and adds the route back.
resource "aws_vpc_peering_connection_accepter" "astro" {
  count = var.peering == null ? 0 : 1

  vpc_peering_connection_id = var.peering.connection_id
  auto_accept               = true

  tags = { Name = "${var.name}-astro" }
}

resource "aws_route" "astro" {
  count = var.peering == null ? 0 : 1

  route_table_id            = aws_route_table.this.id
  destination_cidr_block    = var.peering.astro_cidr
  vpc_peering_connection_id = aws_vpc_peering_connection_accepter.astro[0].id
}
