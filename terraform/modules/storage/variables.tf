variable "name" {
  description = "Prefix of every bucket, such as airlock-dev."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,36}[a-z0-9]$", var.name))
    error_message = "name is \"${var.name}\": buckets take 3 to 38 lower-case letters, digits and hyphens here, such as airlock-dev."
  }
}

variable "protected" {
  description = "Whether a destroy stops at a bucket that still holds objects."
  type        = bool
}

variable "access_logged" {
  description = "Whether every access is logged, in a third bucket."
  type        = bool
}

variable "report_days" {
  description = "How many days a report page is kept: as long as its results in the warehouse."
  type        = number

  validation {
    condition     = var.report_days >= 60
    error_message = "report_days is ${var.report_days}: the report shows the last 60 days; keep at least those."
  }
}

variable "xcom_days" {
  description = "How many days values between tasks are kept: as long as a run may be cleared and run on."
  type        = number
  default     = 30

  validation {
    condition     = var.xcom_days >= 7
    error_message = "xcom_days is ${var.xcom_days}: a run that is cleared next week still reads them; keep at least 7."
  }
}
