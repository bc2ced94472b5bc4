data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  # Built from the name to avoid a cycle: the deployment receives the role's ARN, and the role trusts the deployment.
  role_name = "${var.name}-airflow"
  role_arn  = "arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:role/${local.role_name}"

  environment_variables = {
    AIRFLOW__SECRETS__BACKEND = "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend"
    AIRFLOW__SECRETS__BACKEND_KWARGS = jsonencode({
      connections_prefix = var.connections_prefix
      variables_prefix   = var.variables_prefix
      config_prefix      = null
      role_arn           = local.role_arn
      region_name        = var.region
    })
    # The connection that the object-storage paths below use; it contains no secret.
    AIRFLOW_CONN_AWS_DEFAULT = jsonencode({
      conn_type = "aws"
      extra     = { role_arn = local.role_arn, region_name = var.region }
    })
    AIRFLOW__CORE__XCOM_BACKEND                      = "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend"
    AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH      = "s3://aws_default@${var.xcom_bucket}/xcom"
    AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD = "65536" # bytes; smaller values stay in the Airflow database
    AIRFLOW__LOGGING__LOGGING_LEVEL                  = var.log_level
    AIRLOCK_REPORT_ROOT                              = "s3://aws_default@${var.report_bucket}/reports"
    AIRLOCK_QUALITY_DAYS_KEPT                        = tostring(var.report_days)
    AIRLOCK_EXPORT_ROOT                              = "s3://aws_default@${var.export_bucket}"
    AIRLOCK_ARCHIVE_AFTER_DAYS                       = tostring(var.archive_after_days)
  }
}

resource "astro_workspace" "this" {
  name                  = var.name
  description           = "Airlock: data that passed its quality gate (${var.name})"
  cicd_enforced_default = true
}

resource "astro_deployment" "this" {
  name           = var.name
  description    = "Airlock: data that passed its quality gate (${var.name})"
  workspace_id   = astro_workspace.this.id
  contact_emails = var.contact_emails

  # Only the first runtime, the one in the Dockerfile. Later ones come with the image that is deployed.
  original_astro_runtime_version = var.runtime_version

  type           = var.deployment_type
  cloud_provider = var.deployment_type == "STANDARD" ? "AWS" : null
  region         = var.deployment_type == "STANDARD" ? var.region : null
  cluster_id     = var.cluster_id

  is_cicd_enforced      = true
  is_dag_deploy_enabled = true
  is_development_mode   = var.hibernation != null
  is_high_availability  = var.high_availability

  executor                = "CELERY"
  scheduler_size          = var.scheduler_size
  default_task_pod_cpu    = "0.25"
  default_task_pod_memory = "0.5Gi"
  resource_quota_cpu      = "10"
  resource_quota_memory   = "20Gi"

  worker_queues = [{
    name               = "default"
    is_default         = true
    astro_machine      = var.worker.machine
    min_worker_count   = var.worker.min_count
    max_worker_count   = var.worker.max_count
    worker_concurrency = var.worker.concurrency
  }]

  scaling_spec = var.hibernation == null ? null : {
    hibernation_spec = {
      schedules = [{
        description       = "asleep outside working hours"
        hibernate_at_cron = var.hibernation.sleep_cron
        wake_at_cron      = var.hibernation.wake_cron
        is_enabled        = true
      }]
    }
  }

  environment_variables = [
    for key, value in local.environment_variables : { key = key, value = value, is_secret = false }
  ]

  lifecycle {
    ignore_changes = [original_astro_runtime_version] # the provider refuses to change the first runtime

    postcondition {
      condition     = var.deployment_type != "STANDARD" || length(self.external_ips) > 0
      error_message = "The Astro deployment ${var.name} has no external addresses yet, so no address can be allowed to reach the database. Apply again in a few minutes, when the deployment is running. If this error stays, ask Astronomer, or use a DEDICATED cluster."
    }
  }
}

resource "astro_notification_channel" "email" {
  name        = "${var.name}-email"
  type        = "EMAIL"
  entity_type = "DEPLOYMENT"
  entity_id   = astro_deployment.this.id
  definition  = { recipients = var.contact_emails }
  is_shared   = false
}

resource "astro_alerts" "this" {
  alerts = merge(
    {
      failed = {
        name                     = "${var.name}: a DAG failed"
        type                     = "DAG_FAILURE"
        severity                 = "CRITICAL"
        entity_type              = "DEPLOYMENT"
        entity_id                = astro_deployment.this.id
        notification_channel_ids = [astro_notification_channel.email.id]
        rules = {
          properties      = { deployment_id = astro_deployment.this.id }
          pattern_matches = [{ entity_type = "DAG_ID", operator_type = "IS", values = ["*"] }]
        }
      }
    },
    {
      for dag_id, deadline in var.deadlines : "${dag_id}_late" => {
        name                     = "${var.name}: ${dag_id} is late"
        type                     = "DAG_TIMELINESS"
        severity                 = "WARNING"
        entity_type              = "DEPLOYMENT"
        entity_id                = astro_deployment.this.id
        notification_channel_ids = [astro_notification_channel.email.id]
        rules = {
          properties = {
            deployment_id            = astro_deployment.this.id
            dag_deadline             = deadline.utc
            days_of_week             = deadline.days
            look_back_period_seconds = 7200
          }
          pattern_matches = [{ entity_type = "DAG_ID", operator_type = "IS", values = [dag_id] }]
        }
      }
    }
  )
}

# What Airflow may do in AWS: read its secrets, and read and write its buckets.
data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "AWS"
      identifiers = [astro_deployment.this.workload_identity]
    }
  }
}

resource "aws_iam_role" "airflow" {
  name               = local.role_name
  description        = "Assumed by the Astro deployment ${var.name}"
  assume_role_policy = data.aws_iam_policy_document.trust.json

  permissions_boundary = var.permissions_boundary_arn
}

data "aws_iam_policy_document" "airflow" {
  statement {
    sid       = "Secrets"
    actions   = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
    resources = var.secret_arns
  }

  statement {
    sid       = "Buckets"
    actions   = ["s3:ListBucket", "s3:GetBucketLocation"]
    resources = var.bucket_arns
  }

  statement {
    sid       = "Objects"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    resources = [for arn in var.bucket_arns : "${arn}/*"]
  }

  statement {
    sid       = "ReadSecrets"
    actions   = ["kms:Decrypt"]
    resources = [var.secrets_key_arn]
  }

  statement {
    sid       = "ReadAndWriteObjects"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.storage_key_arn]
  }
}

resource "aws_iam_role_policy" "airflow" {
  name   = "airflow"
  role   = aws_iam_role.airflow.id
  policy = data.aws_iam_policy_document.airflow.json
}
