terraform {
  required_version = ">= 1.11"

  # Bucket and region are in backend.hcl. The lock is a file next to the state. `encrypt` is not set: it would replace
  # the default encryption of the bucket, which uses a KMS key, with S3's own key.
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

# The provider reads the token from the environment variable ASTRO_API_TOKEN.
provider "astro" {
  organization_id = var.astro_organization_id
}
