variable "name" {
  description = "Prefix of the roles and of every resource that they may change, such as airlock-dev."
  type        = string
}

variable "environment" {
  description = "The GitHub environment whose jobs apply; plans run in <environment>-plan and <environment>-drift."
  type        = string
}

variable "region" {
  description = "The AWS region of all resources."
  type        = string
}

variable "repository" {
  description = "The repository as GitHub's tokens name it: owner/name, or owner@id/name@id if it was created, renamed or moved after 15 July 2026."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9]([A-Za-z0-9-]{0,37}[A-Za-z0-9])?(@[0-9]+)?/[A-Za-z0-9._-]{1,100}(@[0-9]+)?$", var.repository))
    error_message = "repository is \"${var.repository}\": write owner/name as on GitHub, without https:// or .git, such as example/airlock. If the repository was created, renamed or moved after 15 July 2026, add GitHub's ids, such as example@1/airlock@2."
  }

  validation {
    condition     = !endswith(var.repository, ".git")
    error_message = "repository is \"${var.repository}\": remove .git at the end."
  }
}

variable "state_key" {
  description = "Key of this environment's state in the bucket of terraform/bootstrap."
  type        = string
}

variable "secrets_key_arn" {
  description = "ARN of the KMS key of this environment's secrets."
  type        = string
}

variable "storage_key_arn" {
  description = "ARN of the KMS key of this environment's buckets."
  type        = string
}
