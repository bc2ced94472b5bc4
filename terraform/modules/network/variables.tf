variable "name" {
  description = "Prefix of all names, such as airlock-dev."
  type        = string
}

variable "cidr" {
  description = "Private address range of the network. Each zone gets one eighth as its subnet, by its letter."
  type        = string

  validation {
    condition = (
      can(regex("^(10\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.|192\\.168\\.)[0-9.]+/(1[6-9]|2[0-5])$", var.cidr)) &&
      try(cidrsubnet(var.cidr, 0, 0) == var.cidr, false)
    )
    error_message = "cidr is \"${var.cidr}\": its subnets would not fit. Write a private IPv4 range of /16 to /25 with its first address, such as 10.42.0.0/20."
  }
}

variable "availability_zones" {
  description = "Names of two or more availability zones of the region. RDS needs subnets in at least two."
  type        = list(string)

  validation {
    condition = (
      length(var.availability_zones) >= 2 && length(distinct(var.availability_zones)) == length(var.availability_zones) &&
      alltrue([for zone in var.availability_zones : can(regex("^[a-z]+(-[a-z]+)+-[0-9][a-h]$", zone))])
    )
    error_message = "availability_zones must name two or more different zones of the region, such as [\"eu-west-1a\", \"eu-west-1b\"]."
  }
}

variable "internet_access" {
  description = "Whether the network is connected to the internet: only for a STANDARD deployment."
  type        = bool
}

variable "peering" {
  description = "The VPC peering that Astronomer opened: its id and the address range of the cluster; null until there is one."
  type = object({
    connection_id = string
    astro_cidr    = string
  })
  default = null

  validation {
    condition     = var.peering == null || can(regex("^pcx-[0-9a-f]+$", var.peering.connection_id))
    error_message = "peering.connection_id must be the id of a VPC peering connection, such as pcx-0123456789abcdef0."
  }

  validation {
    condition = var.peering == null || (
      can(regex("^[0-9.]+/(1[2-9]|2[0-8])$", var.peering.astro_cidr)) &&
      try(cidrsubnet(var.peering.astro_cidr, 0, 0) == var.peering.astro_cidr, false)
    )
    error_message = "peering.astro_cidr must be the address range of the Astro cluster, /12 to /28, such as 172.20.0.0/19."
  }

  # Two ranges overlap when they are equal after both are cut to the shorter of the two prefixes.
  validation {
    condition = var.peering == null || try(
      cidrsubnet("${cidrhost(var.cidr, 0)}/${min(split("/", var.cidr)[1], split("/", var.peering.astro_cidr)[1])}", 0, 0) !=
      cidrsubnet("${cidrhost(var.peering.astro_cidr, 0)}/${min(split("/", var.cidr)[1], split("/", var.peering.astro_cidr)[1])}", 0, 0),
      true # a malformed range has its own message
    )
    error_message = "peering.astro_cidr overlaps cidr. AWS cannot peer networks that overlap: choose another cidr."
  }
}
