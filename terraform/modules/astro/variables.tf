variable "name" {
  description = "Name of workspace and deployment, and prefix of the role, such as airlock-dev."
  type        = string
}

variable "region" {
  description = "The AWS region of secrets and buckets, and of a STANDARD deployment."
  type        = string
}

variable "deployment_type" {
  description = "STANDARD: Astronomer's shared clusters, over the internet. DEDICATED: a cluster of your own, over a VPC peering."
  type        = string

  validation {
    condition     = contains(["STANDARD", "DEDICATED"], var.deployment_type)
    error_message = "deployment_type is \"${var.deployment_type}\": write STANDARD or DEDICATED."
  }
}

variable "cluster_id" {
  description = "The dedicated cluster; null for STANDARD."
  type        = string
  default     = null

  validation {
    condition     = (var.cluster_id != null) == (var.deployment_type == "DEDICATED")
    error_message = "A DEDICATED deployment needs its cluster_id, and a STANDARD one has none: set cluster_id, or deployment_type, accordingly."
  }

  validation {
    condition     = var.cluster_id == null || can(regex("^c[a-z0-9]{24}$", var.cluster_id))
    error_message = "cluster_id must be the id that Astro shows with the cluster: c and 24 lower-case letters and digits."
  }
}

variable "runtime_version" {
  description = "Astro Runtime that the deployment begins with, such as 3.3-8: the one of the Dockerfile."
  type        = string
}

variable "high_availability" {
  description = "Whether scheduler and web server run twice."
  type        = bool
}

variable "scheduler_size" {
  description = "SMALL, MEDIUM, LARGE or EXTRALARGE."
  type        = string
  default     = "SMALL"
}

variable "worker" {
  description = "The machine that tasks run on, how many of it, and how many tasks each."
  type = object({
    machine     = string
    min_count   = number
    max_count   = number
    concurrency = number
  })
}

variable "hibernation" {
  description = "When a development deployment sleeps and wakes (cron, UTC); null: never. Astro calls it development mode."
  type = object({
    sleep_cron = string
    wake_cron  = string
  })
  default = null

  validation {
    condition     = var.hibernation == null || !var.high_availability
    error_message = "A deployment that hibernates cannot be highly available: set hibernation = null or high_availability = false."
  }
}

variable "contact_emails" {
  description = "Who is told about the deployment, and of failed and late DAGs."
  type        = set(string)

  validation {
    condition     = length(var.contact_emails) > 0 && alltrue([for email in var.contact_emails : can(regex("^[^@\\s,;<>]+@[^@\\s,;<>.]+(\\.[^@\\s,;<>.]+)+$", email))])
    error_message = "contact_emails must be at least one address such as data-team@example.com, not: ${join(", ", var.contact_emails)}."
  }
}

variable "deadlines" {
  description = "By DAG: until when (HH:MM, UTC) and on which days a run has to have succeeded, or an alert says so."
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
  description = "Airflow's log level."
  type        = string
  default     = "INFO"
}

variable "connections_prefix" {
  description = "Under which the secrets backend finds connections."
  type        = string
}

variable "variables_prefix" {
  description = "Under which the secrets backend finds variables."
  type        = string
}

variable "secret_arns" {
  description = "What the deployment may read of Secrets Manager."
  type        = list(string)
}

variable "secrets_key_arn" {
  description = "The key of those secrets."
  type        = string
}

variable "report_bucket" {
  description = "Bucket of reports."
  type        = string
}

variable "report_days" {
  description = "How many days results of the gates are kept: in the warehouse as long as in the bucket."
  type        = number
}

variable "xcom_bucket" {
  description = "Bucket of values between tasks."
  type        = string
}

variable "bucket_arns" {
  description = "Both buckets."
  type        = list(string)
}

variable "storage_key_arn" {
  description = "The key of both buckets."
  type        = string
}

variable "permissions_boundary_arn" {
  description = "What the role of Airflow can be given at most."
  type        = string
}
