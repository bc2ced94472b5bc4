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
