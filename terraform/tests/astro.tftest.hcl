mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

mock_provider "astro" {
  mock_resource "astro_workspace" {
    defaults = { id = "cl0000000000000000000002x" }
  }

  mock_resource "astro_notification_channel" {
    defaults = { id = "cl0000000000000000000004x" }
  }

  mock_resource "astro_deployment" {
    defaults = {
      id                = "cl0000000000000000000003x"
      external_ips      = ["192.0.2.10"]
      workload_identity = "arn:aws:iam::000000000000:role/AirflowS3Logs-x"
    }
  }
}

variables {
  name                     = "airlock-dev"
  region                   = "eu-west-1"
  deployment_type          = "STANDARD"
  runtime_version          = "3.3-8"
  high_availability        = false
  hibernation              = { sleep_cron = "0 19 * * *", wake_cron = "0 7 * * 1-5" }
  worker                   = { machine = "A5", min_count = 0, max_count = 2, concurrency = 5 }
  contact_emails           = ["data-team@example.com"]
  deadlines                = { orders_daily = { utc = "10:00", days = ["MONDAY"] } }
  connections_prefix       = "airlock-dev/connections"
  variables_prefix         = "airlock-dev/variables"
  secret_arns              = ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:airlock-dev/connections/*"]
  secrets_key_arn          = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  report_bucket            = "airlock-dev-reports-123456789012"
  report_days              = 400
  xcom_bucket              = "airlock-dev-xcom-123456789012"
  export_bucket            = "airlock-dev-exports-123456789012"
  bucket_arns              = ["arn:aws:s3:::airlock-dev-reports-123456789012", "arn:aws:s3:::airlock-dev-exports-123456789012"]
  permissions_boundary_arn = "arn:aws:iam::123456789012:policy/airlock-dev-airflow-boundary"
  storage_key_arn          = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000001"
}

run "hibernation_sets_development_mode_and_a_schedule" {
  command = plan

  module {
    source = "./modules/astro"
  }

  assert {
    condition     = astro_deployment.this.is_development_mode && length(astro_deployment.this.scaling_spec.hibernation_spec.schedules) == 1
    error_message = "a deployment that hibernates must be in development mode and have one schedule"
  }
}

run "alerts_report_failed_and_late_dags" {
  command = plan

  module {
    source = "./modules/astro"
  }

  assert {
    condition     = { for key, alert in astro_alerts.this.alerts : key => alert.type } == { failed = "DAG_FAILURE", orders_daily_late = "DAG_TIMELINESS" }
    error_message = "there must be one alert for failures and one per deadline"
  }

  assert {
    condition     = astro_notification_channel.email.definition.recipients == toset(["data-team@example.com"])
    error_message = "alerts must go to contact_emails"
  }
}

run "only_workflows_can_deploy" {
  command = plan

  module {
    source = "./modules/astro"
  }

  assert {
    condition     = astro_deployment.this.is_cicd_enforced && astro_workspace.this.cicd_enforced_default && astro_deployment.this.is_dag_deploy_enabled
    error_message = "CI/CD must be enforced, and DAG-only deploys must be enabled"
  }
}

run "the_airflow_role_is_limited" {
  command = plan

  module {
    source = "./modules/astro"
  }

  assert {
    condition     = alltrue([for statement in data.aws_iam_policy_document.airflow.statement : !contains(statement.resources, "*")])
    error_message = "the policy of the Airflow role must name its resources, not use *"
  }

  assert {
    condition     = aws_iam_role.airflow.permissions_boundary == "arn:aws:iam::123456789012:policy/airlock-dev-airflow-boundary"
    error_message = "the Airflow role must have its permissions boundary"
  }

  assert {
    condition = {
      for statement in data.aws_iam_policy_document.airflow.statement : statement.sid => {
        actions   = statement.actions
        resources = statement.resources
      } if contains(["Buckets", "Objects"], statement.sid)
      } == {
      Buckets = {
        actions   = toset(["s3:GetBucketLocation", "s3:ListBucket"])
        resources = toset(var.bucket_arns)
      }
      Objects = {
        actions   = toset(["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"])
        resources = toset([for arn in var.bucket_arns : "${arn}/*"])
      }
    }
    error_message = "the Airflow role must list each of its buckets, and read, write and delete its objects, nothing more"
  }
}

run "the_deployment_receives_the_place_of_exports_and_when_to_archive_them" {
  command = plan

  module {
    source = "./modules/astro"
  }

  assert {
    condition = {
      for variable in astro_deployment.this.environment_variables : variable.key => variable.value
      if contains(["AIRLOCK_EXPORT_ROOT", "AIRLOCK_ARCHIVE_AFTER_DAYS"], variable.key)
      } == {
      AIRLOCK_EXPORT_ROOT        = "s3://aws_default@airlock-dev-exports-123456789012"
      AIRLOCK_ARCHIVE_AFTER_DAYS = "30"
    }
    error_message = "the deployment must receive the bucket of exports, and the days after which they are archived"
  }
}

run "refuses_half_a_day_until_the_archive" {
  command = plan

  module {
    source = "./modules/astro"
  }

  variables {
    archive_after_days = 30.5
  }

  expect_failures = [var.archive_after_days]
}

run "refuses_an_invalid_time_and_day" {
  command = plan

  module {
    source = "./modules/astro"
  }

  variables {
    deadlines = { orders_daily = { utc = "25:99", days = ["FRIYAY"] } }
  }

  expect_failures = [var.deadlines]
}

run "fails_when_the_deployment_has_no_address" {
  command = apply # with mocks: nothing is created

  module {
    source = "./modules/astro"
  }

  override_resource {
    target = astro_deployment.this
    values = {
      id                = "cl0000000000000000000003x"
      external_ips      = []
      workload_identity = "arn:aws:iam::000000000000:role/AirflowS3Logs-x"
    }
  }

  expect_failures = [astro_deployment.this]
}

run "refuses_standard_with_a_cluster" {
  command = plan

  module {
    source = "./modules/astro"
  }

  variables {
    cluster_id = "cl0000000000000000000001x"
  }

  expect_failures = [var.cluster_id]
}

run "refuses_dedicated_without_a_cluster" {
  command = plan

  module {
    source = "./modules/astro"
  }

  variables {
    deployment_type = "DEDICATED"
  }

  expect_failures = [var.cluster_id]
}

run "refuses_a_malformed_email_address" {
  command = plan

  module {
    source = "./modules/astro"
  }

  variables {
    contact_emails = ["data team@example.com"]
  }

  expect_failures = [var.contact_emails]
}

run "refuses_hibernation_with_high_availability" {
  command = plan

  module {
    source = "./modules/astro"
  }

  variables {
    high_availability = true
  }

  expect_failures = [var.hibernation]
}
