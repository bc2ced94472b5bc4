# The settings of this environment; terraform.tfvars.example shows an example. The modules validate the values.
variable "region" {
  description = "The AWS region of all resources."
  type        = string
}

variable "availability_zones" {
  description = "Two or more availability zones of that region."
  type        = list(string)

  validation {
    condition     = alltrue([for zone in var.availability_zones : startswith(zone, var.region)])
    error_message = "availability_zones must be zones of ${var.region}, such as ${var.region}a."
  }
}

variable "network_cidr" {
  description = "Address range of the database's network. It must not overlap the range of the Astro cluster."
  type        = string
  default     = "10.43.0.0/20"
}

variable "astro_organization_id" {
  description = "The id of the Astro organisation, from its settings."
  type        = string

  validation {
    condition     = can(regex("^c[a-z0-9]{24}$", var.astro_organization_id))
    error_message = "astro_organization_id is \"${var.astro_organization_id}\": write the id from Astro's organisation settings, c and 24 lower-case letters and digits."
  }
}

variable "deployment_type" {
  description = "How Airflow reaches the database. STANDARD: over the internet. DEDICATED: over a VPC peering."
  type        = string
  default     = "DEDICATED"
}

variable "cluster_id" {
  description = "The id of the dedicated cluster; null for STANDARD."
  type        = string
  default     = null
}

variable "peering" {
  description = "The VPC peering that Astronomer opened, for DEDICATED; null until there is one."
  type = object({
    connection_id = string
    astro_cidr    = string
  })
  default = null

  validation {
    condition     = var.peering == null || var.deployment_type == "DEDICATED"
    error_message = "A STANDARD deployment cannot have a peering: remove peering, or set deployment_type = \"DEDICATED\"."
  }
}

variable "repository" {
  description = "This repository on GitHub: owner/name, or with GitHub's ids owner@id/name@id; see docs/infrastructure.md."
  type        = string
}

variable "contact_emails" {
  description = "Who is notified of database alarms and of failed and late DAGs."
  type        = set(string)
}

variable "deadlines" {
  description = "Per DAG: the time (HH:MM, UTC) and the days by which a run must have succeeded. Add the DAGs that you unpause."
  type = map(object({
    utc  = string
    days = set(string)
  }))
  default = {}
}

variable "passwords_version" {
  description = "Raise by one to rotate the passwords of the database, then run warehouse_migrations."
  type        = number
  default     = 1
}

variable "database_instance_class" {
  description = "Instance class of the database. A change restarts the database."
  type        = string
  default     = "db.m7g.large"
}

variable "database_storage_gb" {
  description = "Initial storage in GB. Storage can grow, but never shrink."
  type        = number
  default     = 100
}

variable "database_max_storage_gb" {
  description = "Limit in GB up to which RDS may grow the storage by itself."
  type        = number
  default     = 500
}

variable "database_backup_retention_days" {
  description = "Number of days that backups are kept."
  type        = number
  default     = 14
}

variable "database_deletion_protection" {
  description = "Whether the database and the buckets are protected from deletion."
  type        = bool
  default     = true
}

variable "unprotect_database" {
  description = "Set to \"airlock-prod\", with database_deletion_protection = false, and apply before you destroy prod."
  type        = string
  default     = null
}
