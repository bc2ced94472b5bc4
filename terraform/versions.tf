# No infrastructure here. `terraform test` reads this file to know which providers the files in tests/ mock.
terraform {
  required_version = ">= 1.11"

  required_providers {
    astro = {
      source  = "astronomer/astro"
      version = "~> 1.5.2"
    }
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}
