variable "name" {
  description = "Prefix of the bucket names, such as airlock-dev."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,36}[a-z0-9]$", var.name))
    error_message = "name is \"${var.name}\": it must be 3 to 38 lower-case letters, digits and hyphens, such as airlock-dev."
  }
}

variable "protected" {
  description = "Whether a destroy stops at a bucket that still contains objects."
  type        = bool
}

variable "access_logged" {
  description = "Whether every access is logged in another bucket."
  type        = bool
}

variable "report_days" {
  description = "Number of days that a report page is kept, the same as its results in the warehouse."
  type        = number

  validation {
    condition     = var.report_days >= 60
    error_message = "report_days is ${var.report_days}: the report shows the last 60 days, so it must be at least 60."
  }
}

variable "xcom_days" {
  description = "Number of days that values between tasks (XCom) are kept. A run can be cleared and continued only in this time."
  type        = number
  default     = 30

  validation {
    condition     = var.xcom_days >= 7
    error_message = "xcom_days is ${var.xcom_days}: a run that is cleared a week later still reads them, so it must be at least 7."
  }
}

variable "archive_storage_class" {
  description = "Storage class of archived exports. GLACIER_IR: cheap to keep, and Airflow can still read at once; GLACIER and DEEP_ARCHIVE cost less, but a person must restore an object first, which takes hours."
  type        = string
  default     = "GLACIER_IR"

  validation {
    condition     = contains(["GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"], var.archive_storage_class)
    error_message = "archive_storage_class is \"${var.archive_storage_class}\": write GLACIER_IR, GLACIER or DEEP_ARCHIVE."
  }
}
