variable "name" {
  description = "Prefix of the roles, and of everything they may touch, such as airlock-dev."
  type        = string
}

variable "environment" {
  description = "The environment in GitHub whose jobs apply; its plans run in <environment>-plan and <environment>-drift."
  type        = string
}

variable "region" {
  description = "The region that everything is in."
  type        = string
}

variable "repository" {
  description = "The repository as GitHub's tokens name it: owner/name; made, renamed or moved after 15 July 2026, owner@id/name@id."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9]([A-Za-z0-9-]{0,37}[A-Za-z0-9])?(@[0-9]+)?/[A-Za-z0-9._-]{1,100}(@[0-9]+)?$", var.repository))
    error_message = "repository is \"${var.repository}\": write owner/name as on GitHub, without address or .git, such as example/airlock; or, for one made, renamed or moved after 15 July 2026, with GitHub's ids, such as example@1/airlock@2."
  }

  validation {
    condition     = !endswith(var.repository, ".git")
    error_message = "repository is \"${var.repository}\": leave .git away."
  }
}

variable "state_key" {
  description = "Where in the state bucket of terraform/bootstrap this environment's state lies."
  type        = string
}

variable "secrets_key_arn" {
  description = "The key of this environment's secrets."
  type        = string
}

variable "storage_key_arn" {
  description = "The key of this environment's buckets."
  type        = string
}
