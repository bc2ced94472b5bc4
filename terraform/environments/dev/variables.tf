# What is yours to say; terraform.tfvars.example shows it. The modules say what they refuse.
variable "region" {
  description = "The AWS region of everything."
  type        = string
}

variable "availability_zones" {
  description = "Two or more zones of that region."
  type        = list(string)

  validation {
    condition     = alltrue([for zone in var.availability_zones : startswith(zone, var.region)])
    error_message = "availability_zones must be zones of ${var.region}, such as ${var.region}a."
  }
}

variable "network_cidr" {
  description = "Address range of the database's network; it may not overlap with the Astro cluster's."
  type        = string
  default     = "10.42.0.0/20"
}

variable "astro_organization_id" {
  description = "The organisation's id, as Astro shows it in its settings."
  type        = string

  validation {
    condition     = can(regex("^c[a-z0-9]{24}$", var.astro_organization_id))
    error_message = "astro_organization_id is \"${var.astro_organization_id}\": write the id from Astro's organisation settings, c and 24 lower-case letters and digits."
  }
}

variable "deployment_type" {
  description = "How Airflow reaches the database. STANDARD: over the internet; DEDICATED: over a peering."
  type        = string
  default     = "STANDARD"
}

variable "cluster_id" {
  description = "The dedicated cluster; null for STANDARD."
  type        = string
  default     = null
}

variable "peering" {
  description = "Astronomer's half of the peering, for DEDICATED: connection_id and astro_cidr; null until there is one."
  type = object({
    connection_id = string
    astro_cidr    = string
  })
  default = null

  validation {
    condition     = var.peering == null || var.deployment_type == "DEDICATED"
    error_message = "A STANDARD deployment cannot peer: leave peering away, or set deployment_type = \"DEDICATED\"."
  }
}

variable "repository" {
  description = "This repository on GitHub: owner/name, or with GitHub's ids, owner@id/name@id; see docs/infrastructure.md."
  type        = string
}

variable "contact_emails" {
  description = "Who is told: of alarms of the database, of failed and late DAGs."
  type        = set(string)
}

variable "deadlines" {
  description = "By DAG: until when (HH:MM, UTC) and on which days a run has to have succeeded. Name the DAGs that you unpause."
  type = map(object({
    utc  = string
    days = set(string)
  }))
  default = {
    market_etl__taskflow_api = { utc = "10:00", days = ["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY"] }
  }
}

variable "passwords_version" {
  description = "Raised by one to rotate the database's passwords; then run warehouse_migrations."
  type        = number
  default     = 1
}

variable "database_instance_class" {
  description = "Size of the database's machine. A change restarts it."
  type        = string
  default     = "db.t4g.micro"
}

variable "database_storage_gb" {
  description = "Storage to begin with. It only ever grows."
  type        = number
  default     = 20
}

variable "database_max_storage_gb" {
  description = "How far it may grow by itself."
  type        = number
  default     = 50
}

variable "database_backup_retention_days" {
  description = "How many days backups are kept."
  type        = number
  default     = 3
}

variable "database_deletion_protection" {
  description = "Whether database and buckets refuse to be deleted."
  type        = bool
  default     = false
}

variable "unprotect_database" {
  description = "To destroy a protected dev: \"airlock-dev\" here and database_deletion_protection = false, and an apply before the destroy."
  type        = string
  default     = null
}
