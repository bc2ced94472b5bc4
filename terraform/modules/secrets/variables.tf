variable "name" {
  description = "Prefix of every secret, such as airlock-dev."
  type        = string
}

variable "passwords_version" {
  description = "Raised by one to rotate all passwords."
  type        = number

  validation {
    condition     = var.passwords_version >= 1 && floor(var.passwords_version) == var.passwords_version
    error_message = "passwords_version is ${var.passwords_version}: a whole number from 1 on, raised by one to rotate the passwords."
  }
}

variable "recovery_days" {
  description = "How long a deleted secret can be got back: 0 (at once gone, its name free again) or 7 to 30."
  type        = number

  validation {
    condition     = var.recovery_days == 0 || (var.recovery_days >= 7 && var.recovery_days <= 30)
    error_message = "recovery_days is ${var.recovery_days}: Secrets Manager takes 0, or 7 to 30."
  }
}

variable "admin" {
  description = "The database's master user."
  type        = string
}

variable "database_name" {
  description = "The database that the connections open."
  type        = string
}

# Alone in its variable: the passwords are made before there is a database, and may not wait for it.
variable "database_address" {
  description = "Host name of the database."
  type        = string
}

variable "database_port" {
  description = "Port of the database."
  type        = number
}
