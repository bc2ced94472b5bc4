variable "name" {
  description = "Name of the instance, and prefix of its other resources, such as airlock-dev."
  type        = string

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,40}[a-z0-9])?$", var.name)) && !strcontains(var.name, "--")
    error_message = "name is \"${var.name}\": RDS accepts lower-case letters, digits and single hyphens, starting with a letter, such as airlock-dev."
  }
}

variable "environment" {
  description = "dev or prod. This module enforces what prod must have."
  type        = string

  validation {
    condition     = contains(["dev", "prod"], var.environment)
    error_message = "environment is \"${var.environment}\": write dev or prod. (To add an environment, add its folder, and its name to this list.)"
  }
}

variable "engine_version" {
  description = "Major version of Postgres, the same as in make demo. RDS keeps the minor version up to date."
  type        = string
  default     = "18"
}

variable "instance_class" {
  description = "Instance class, such as db.t4g.small."
  type        = string

  validation {
    condition     = can(regex("^db\\.[a-z0-9]+\\.[a-z0-9]+$", var.instance_class))
    error_message = "instance_class is \"${var.instance_class}\": write an instance class of RDS, such as db.t4g.small."
  }
}

variable "storage_gb" {
  description = "Initial storage in GB (gp3: at least 20)."
  type        = number

  validation {
    condition     = var.storage_gb >= 20 && floor(var.storage_gb) == var.storage_gb
    error_message = "storage_gb is ${var.storage_gb}: gp3 storage of RDS has at least 20 GB, in whole GB."
  }
}

variable "max_storage_gb" {
  description = "Limit in GB up to which RDS may grow the storage by itself."
  type        = number

  validation {
    condition     = var.max_storage_gb >= var.storage_gb * 1.26 && var.max_storage_gb <= 65536 && floor(var.max_storage_gb) == var.max_storage_gb
    error_message = "max_storage_gb is ${var.max_storage_gb}: RDS needs a limit at least 26 % above storage_gb (${var.storage_gb}), and at most 65536."
  }
}

variable "multi_az" {
  description = "Whether there is a standby in a second availability zone."
  type        = bool

  validation {
    condition     = var.multi_az || var.environment != "prod"
    error_message = "prod needs multi_az = true: without a standby it is down when its zone is down, and while RDS patches it."
  }
}

variable "backup_retention_days" {
  description = "Number of days that automated backups are kept, 1 to 35."
  type        = number

  validation {
    condition     = var.backup_retention_days >= 1 && var.backup_retention_days <= 35
    error_message = "backup_retention_days is ${var.backup_retention_days}: RDS accepts 1 to 35."
  }

  validation {
    condition     = var.backup_retention_days >= 7 || var.environment != "prod"
    error_message = "backup_retention_days is ${var.backup_retention_days}: prod keeps at least 7, so that damage from a weekend can be restored on Monday."
  }
}

variable "deletion_protection" {
  description = "Whether RDS refuses to delete the database."
  type        = bool

  validation {
    condition     = var.deletion_protection || var.environment != "prod" || var.unprotect == var.name
    error_message = "prod needs deletion_protection = true. To remove the protection before a destroy, also set unprotect_database to the name of the database: \"${var.name}\"."
  }
}

variable "unprotect" {
  description = "Name of a prod database that may lose its protection: a second confirmation."
  type        = string
  default     = null
}

variable "vpc_id" {
  description = "Id of the VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Ids of subnets in at least two availability zones."
  type        = list(string)
}

variable "publicly_accessible" {
  description = "Whether the database has a public address: only for a STANDARD deployment."
  type        = bool
}

variable "client_cidrs" {
  description = "Address ranges that may connect: those of Airflow; empty while there are none."
  type        = list(string)

  validation {
    condition     = alltrue([for cidr in var.client_cidrs : can(cidrhost(cidr, 0)) && try(tonumber(split("/", cidr)[1]) >= 12, false)])
    error_message = "client_cidrs must not open the database to everybody (0.0.0.0/0) or to a range larger than /12: write the addresses of Airflow, such as 192.0.2.10/32."
  }
}

variable "database_name" {
  description = "Name of the database to create."
  type        = string
}

variable "admin" {
  description = "Master user, which migrations log in as."
  type        = string
}

variable "admin_password" {
  description = "Password of the master user; never in a state or plan."
  type        = string
  sensitive   = true
  ephemeral   = true
}

variable "password_version" {
  description = "A number that changes with the password, so that Terraform sets the new password."
  type        = number
}

variable "alarm_emails" {
  description = "Who is notified by the alarms; each address has to confirm once."
  type        = set(string)

  validation {
    condition     = alltrue([for email in var.alarm_emails : can(regex("^[^@\\s,;<>]+@[^@\\s,;<>.]+(\\.[^@\\s,;<>.]+)+$", email))])
    error_message = "alarm_emails must be addresses such as data-team@example.com, not: ${join(", ", var.alarm_emails)}."
  }
}
