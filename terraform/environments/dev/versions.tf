terraform {
  required_version = ">= 1.11"

  # Bucket and region are in backend.hcl; the lock is a file beside the state. The bucket encrypts with its own key:
  # `encrypt` would ask for S3's.
  backend "s3" {
    key          = "dev/terraform.tfstate"
    use_lockfile = true
  }

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

provider "aws" {
  region = var.region

  default_tags {
    tags = { Project = "airlock", Environment = local.environment, ManagedBy = "terraform" }
  }
}

# The token is in the environment: ASTRO_API_TOKEN.
provider "astro" {
  organization_id = var.astro_organization_id
}
