mock_provider "aws" {}

variables {
  name               = "airlock-test"
  cidr               = "10.42.0.0/20"
  availability_zones = ["eu-west-1a", "eu-west-1b"]
  internet_access    = true
}

run "one_subnet_per_zone" {
  command = plan

  module {
    source = "./modules/network"
  }

  assert {
    condition     = join(" ", [for subnet in aws_subnet.this : subnet.cidr_block]) == "10.42.0.0/23 10.42.2.0/23"
    error_message = "each zone must get its eighth of the range, by its letter"
  }

  assert {
    condition     = length(aws_route.internet) == 1 && length(aws_vpc_peering_connection_accepter.astro) == 0
    error_message = "STANDARD must use the internet and no peering"
  }
}

run "a_network_with_a_peering_is_private" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    internet_access = false
    peering         = { connection_id = "pcx-0123456789abcdef0", astro_cidr = "172.20.0.0/19" }
  }

  assert {
    condition     = length(aws_internet_gateway.this) == 0 && length(aws_route.internet) == 0
    error_message = "a private network must not be connected to the internet"
  }

  assert {
    condition     = aws_route.astro[0].destination_cidr_block == "172.20.0.0/19"
    error_message = "there must be a route back to the Astro cluster"
  }
}

run "refuses_a_range_that_is_too_small" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    cidr = "10.42.0.0/26"
  }

  expect_failures = [var.cidr]
}

run "refuses_a_range_not_written_with_its_first_address" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    cidr = "10.42.1.0/20"
  }

  expect_failures = [var.cidr]
}

run "the_order_of_zones_moves_no_subnet" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    availability_zones = ["eu-west-1c", "eu-west-1b"]
  }

  assert {
    condition     = aws_subnet.this["eu-west-1b"].cidr_block == "10.42.2.0/23" && aws_subnet.this["eu-west-1c"].cidr_block == "10.42.4.0/23"
    error_message = "the subnet of a zone must depend only on its letter"
  }
}

run "refuses_public_addresses" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    cidr = "8.8.0.0/16"
  }

  expect_failures = [var.cidr]
}

run "refuses_fewer_than_two_different_zones" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    availability_zones = ["eu-west-1a", "eu-west-1a"]
  }

  expect_failures = [var.availability_zones]
}

run "refuses_a_peering_with_an_overlapping_range" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    peering = { connection_id = "pcx-0123456789abcdef0", astro_cidr = "10.40.0.0/14" }
  }

  expect_failures = [var.peering]
}
