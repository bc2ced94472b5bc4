variable "name" {
  description = "Name of the instance, and prefix of what belongs to it, such as airlock-dev."
  type        = string

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,40}[a-z0-9])?$", var.name)) && !strcontains(var.name, "--")
    error_message = "name is \"${var.name}\": RDS takes lower-case letters, digits and single hyphens, beginning with a letter, such as airlock-dev."
  }
}

variable "environment" {
  description = "dev or prod: what prod must have is decided in this module."
  type        = string

  validation {
    condition     = contains(["dev", "prod"], var.environment)
    error_message = "environment is \"${var.environment}\": write dev or prod. (A further environment is a new folder, and its name in this list.)"
  }
}

variable "engine_version" {
  description = "Major version of Postgres: the one that make demo runs. RDS keeps the minor version up to date."
  type        = string
  default     = "18"
}

variable "instance_class" {
  description = "Size of the machine, such as db.t4g.small."
  type        = string

  validation {
    condition     = can(regex("^db\\.[a-z0-9]+\\.[a-z0-9]+$", var.instance_class))
    error_message = "instance_class is \"${var.instance_class}\": write a class of RDS, such as db.t4g.small."
  }
}

variable "storage_gb" {
  description = "Storage to begin with, in GB (gp3: at least 20)."
  type        = number

  validation {
    condition     = var.storage_gb >= 20 && floor(var.storage_gb) == var.storage_gb
    error_message = "storage_gb is ${var.storage_gb}: RDS gives gp3 storage from 20 GB on, in whole GB."
  }
}

variable "max_storage_gb" {
  description = "How far RDS may let the storage grow by itself, in GB."
  type        = number

  validation {
    condition     = var.max_storage_gb >= var.storage_gb * 1.26 && var.max_storage_gb <= 65536 && floor(var.max_storage_gb) == var.max_storage_gb
    error_message = "max_storage_gb is ${var.max_storage_gb}: RDS wants a limit at least 26 % above storage_gb (${var.storage_gb}), and up to 65536."
  }
}

variable "multi_az" {
  description = "A standby in a second zone."
  type        = bool

  validation {
    condition     = var.multi_az || var.environment != "prod"
    error_message = "prod needs multi_az = true: without a standby it is down while its zone is, and while RDS patches it."
  }
}

variable "backup_retention_days" {
  description = "How many days automated backups are kept, 1 to 35."
  type        = number

  validation {
    condition     = var.backup_retention_days >= 1 && var.backup_retention_days <= 35
    error_message = "backup_retention_days is ${var.backup_retention_days}: RDS keeps 1 to 35 days."
  }

  validation {
    condition     = var.backup_retention_days >= 7 || var.environment != "prod"
    error_message = "backup_retention_days is ${var.backup_retention_days}: prod keeps at least 7, so that what broke on a weekend can be restored on Monday."
  }
}

variable "deletion_protection" {
  description = "Whether RDS refuses to delete the database."
  type        = bool

  validation {
    condition     = var.deletion_protection || var.environment != "prod" || var.unprotect == var.name
    error_message = "prod needs deletion_protection = true. To take it away on purpose, before a destroy, name the database in unprotect_database, too: \"${var.name}\"."
  }
}

variable "unprotect" {
  description = "The name of a prod database that is to lose its protection: said twice, so that it is meant."
  type        = string
  default     = null
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets in at least two zones."
  type        = list(string)
}

variable "publicly_accessible" {
  description = "Whether the database has a public address: only for a STANDARD deployment."
  type        = bool
}

variable "client_cidrs" {
  description = "Who may connect: the addresses of Airflow; empty while there is none."
  type        = list(string)

  validation {
    condition     = alltrue([for cidr in var.client_cidrs : can(cidrhost(cidr, 0)) && try(tonumber(split("/", cidr)[1]) >= 12, false)])
    error_message = "client_cidrs may not open the database to everybody (0.0.0.0/0), nor to more than a /12: name Airflow's own addresses, such as 192.0.2.10/32."
  }
}

variable "database_name" {
  description = "The database that is made."
  type        = string
}

variable "admin" {
  description = "The master user: migrations log in as it."
  type        = string
}

variable "admin_password" {
  description = "Its password: never in state or plan."
  type        = string
  sensitive   = true
  ephemeral   = true
}

variable "password_version" {
  description = "Changes whenever the password does: that is how Terraform knows that it has to be set."
  type        = number
}

variable "alarm_emails" {
  description = "Who is told by the alarms; each address has to confirm once."
  type        = set(string)

  validation {
    condition     = alltrue([for email in var.alarm_emails : can(regex("^[^@\\s,;<>]+@[^@\\s,;<>.]+(\\.[^@\\s,;<>.]+)+$", email))])
    error_message = "alarm_emails must be addresses such as data-team@example.com, not: ${join(", ", var.alarm_emails)}."
  }
}
