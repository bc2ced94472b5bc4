variable "name" {
  description = "Name of the workspace and the deployment, and prefix of the role, such as airlock-dev."
  type        = string
}

variable "region" {
  description = "The AWS region of the secrets and buckets, and of a STANDARD deployment."
  type        = string
}

variable "deployment_type" {
  description = "STANDARD: shared clusters of Astronomer, over the internet. DEDICATED: a cluster of your own, over a VPC peering."
  type        = string

  validation {
    condition     = contains(["STANDARD", "DEDICATED"], var.deployment_type)
    error_message = "deployment_type is \"${var.deployment_type}\": write STANDARD or DEDICATED."
  }
}

variable "cluster_id" {
  description = "The id of the dedicated cluster; null for STANDARD."
  type        = string
  default     = null

  validation {
    condition     = (var.cluster_id != null) == (var.deployment_type == "DEDICATED")
    error_message = "A DEDICATED deployment needs its cluster_id, and a STANDARD one must not have it: change cluster_id or deployment_type."
  }

  validation {
    condition     = var.cluster_id == null || can(regex("^c[a-z0-9]{24}$", var.cluster_id))
    error_message = "cluster_id must be the id that Astro shows for the cluster: c and 24 lower-case letters and digits."
  }
}

variable "runtime_version" {
  description = "First Astro Runtime of the deployment, such as 3.3-8: the one in the Dockerfile."
  type        = string
}

variable "high_availability" {
  description = "Whether the scheduler and the web server run twice."
  type        = bool
}

variable "scheduler_size" {
  description = "SMALL, MEDIUM, LARGE or EXTRALARGE."
  type        = string
  default     = "SMALL"
}

variable "worker" {
  description = "Machine type of the workers, how many there are, and how many tasks each one runs."
  type = object({
    machine     = string
    min_count   = number
    max_count   = number
    concurrency = number
  })
}

variable "hibernation" {
  description = "When a development deployment sleeps and wakes (cron, UTC); null: never. Turns on development mode in Astro."
  type = object({
    sleep_cron = string
    wake_cron  = string
  })
  default = null

  validation {
    condition     = var.hibernation == null || !var.high_availability
    error_message = "A deployment that hibernates cannot have high availability: set hibernation = null or high_availability = false."
  }
}

variable "contact_emails" {
  description = "Who is notified about the deployment and about failed and late DAGs."
  type        = set(string)

  validation {
    condition     = length(var.contact_emails) > 0 && alltrue([for email in var.contact_emails : can(regex("^[^@\\s,;<>]+@[^@\\s,;<>.]+(\\.[^@\\s,;<>.]+)+$", email))])
    error_message = "contact_emails must contain at least one address, and only addresses such as data-team@example.com, not: ${join(", ", var.contact_emails)}."
  }
}

variable "deadlines" {
  description = "Per DAG: the time (HH:MM, UTC) and the days by which a run must have succeeded. An alert reports a late run."
  type = map(object({
    utc  = string
    days = set(string)
  }))

  validation {
    condition     = alltrue([for deadline in var.deadlines : can(regex("^([01][0-9]|2[0-3]):[0-5][0-9]$", deadline.utc))])
    error_message = "deadlines: utc must be a time such as 09:30."
  }

  validation {
    condition = alltrue(flatten([for deadline in var.deadlines : [for day in deadline.days : contains(
      ["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"], day
    )]]))
    error_message = "deadlines: days must be names such as MONDAY."
  }
}

variable "log_level" {
  description = "Log level of Airflow."
  type        = string
  default     = "INFO"
}

variable "connections_prefix" {
  description = "Prefix under which the secrets backend finds connections."
  type        = string
}

variable "variables_prefix" {
  description = "Prefix under which the secrets backend finds variables."
  type        = string
}

variable "secret_arns" {
  description = "ARN patterns of the secrets that the deployment may read."
  type        = list(string)
}

variable "secrets_key_arn" {
  description = "ARN of the KMS key of those secrets."
  type        = string
}

variable "report_bucket" {
  description = "Name of the bucket of reports."
  type        = string
}

variable "report_days" {
  description = "Number of days that validation results are kept, in the warehouse and in the bucket."
  type        = number
}

variable "xcom_bucket" {
  description = "Name of the bucket of values between tasks (XCom)."
  type        = string
}

variable "export_bucket" {
  description = "Name of the bucket of exports."
  type        = string
}

variable "archive_after_days" {
  description = "Number of days after which an export is moved to the archive."
  type        = number
  default     = 30

  validation {
    condition     = can(regex("^[1-9][0-9]{0,3}$", var.archive_after_days))
    error_message = "archive_after_days is ${var.archive_after_days}: give a whole number from 1 to 9999."
  }
}

variable "bucket_arns" {
  description = "ARNs of these buckets."
  type        = list(string)
}

variable "storage_key_arn" {
  description = "ARN of the KMS key of these buckets."
  type        = string
}

variable "permissions_boundary_arn" {
  description = "ARN of the permissions boundary of the Airflow role: the most that it can be granted."
  type        = string
}
