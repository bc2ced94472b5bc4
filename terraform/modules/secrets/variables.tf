variable "name" {
  description = "Prefix of the name of every secret, such as airlock-dev."
  type        = string
}

variable "app_connections" {
  description = "Airflow connections that log in as airlock_app: those that the datasets declare."
  type        = set(string)

  validation {
    condition     = alltrue([for connection in var.app_connections : can(regex("^[a-z0-9_]+$", connection))])
    error_message = "app_connections is ${jsonencode(var.app_connections)}: a name may have only lower-case letters, digits and underscores, such as postgres_orders_conn."
  }

  validation {
    condition     = length(setintersection(var.app_connections, ["postgres_admin_conn", "postgres_reader_conn"])) == 0
    error_message = "app_connections must not contain postgres_admin_conn or postgres_reader_conn: these log in as other users, and a dataset needs its own connection."
  }
}

variable "passwords_version" {
  description = "Raise by one to rotate all passwords."
  type        = number

  validation {
    condition     = var.passwords_version >= 1 && floor(var.passwords_version) == var.passwords_version
    error_message = "passwords_version is ${var.passwords_version}: it must be a whole number of at least 1. Raise it by one to rotate the passwords."
  }
}

variable "recovery_days" {
  description = "Days in which a deleted secret can be restored: 0 (deleted at once, its name is free again) or 7 to 30."
  type        = number

  validation {
    condition     = var.recovery_days == 0 || (var.recovery_days >= 7 && var.recovery_days <= 30)
    error_message = "recovery_days is ${var.recovery_days}: Secrets Manager accepts 0, or 7 to 30."
  }
}

variable "admin" {
  description = "Master user of the database."
  type        = string
}

variable "database_name" {
  description = "Name of the database that the connections use."
  type        = string
}

# A variable of its own: the passwords are generated before the database exists and must not depend on it.
variable "database_address" {
  description = "Host name of the database."
  type        = string
}

variable "database_port" {
  description = "Port of the database."
  type        = number
}
