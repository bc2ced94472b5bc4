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

  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000" }
  }

  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-west-1:123456789012:alarms" }
  }
}

variables {
  name                  = "airlock-prod"
  environment           = "prod"
  instance_class        = "db.m7g.large"
  storage_gb            = 100
  max_storage_gb        = 500
  database_name         = "warehouse"
  admin                 = "airlock_admin"
  multi_az              = true
  backup_retention_days = 14
  deletion_protection   = true
  vpc_id                = "vpc-0123456789abcdef0"
  subnet_ids            = ["subnet-a", "subnet-b"]
  publicly_accessible   = false
  client_cidrs          = ["172.20.0.0/19"]
  admin_password        = "mocked"
  password_version      = 1
  alarm_emails          = ["data-team@example.com"]
}

run "prod_is_private_encrypted_redundant_and_backed_up" {
  command = apply # with mocks: nothing is created

  module {
    source = "./modules/database"
  }

  assert {
    condition = (
      aws_db_instance.this.storage_encrypted && aws_db_instance.this.multi_az && aws_db_instance.this.deletion_protection &&
      !aws_db_instance.this.publicly_accessible && !aws_db_instance.this.skip_final_snapshot &&
      aws_db_instance.this.backup_retention_period == 14 && aws_db_instance.this.kms_key_id == aws_kms_key.this.arn
    )
    error_message = "prod must be encrypted with its own key, multi-AZ, protected, private and backed up"
  }

  assert {
    condition     = aws_db_instance.this.storage_type == "gp3" && aws_db_instance.this.max_allocated_storage == 500
    error_message = "the storage must be gp3 and grow up to the limit"
  }

  assert {
    condition     = { for parameter in aws_db_parameter_group.this.parameter : parameter.name => parameter.value }["rds.force_ssl"] == "1"
    error_message = "TLS must be required"
  }

  assert {
    condition     = [for rule in aws_security_group.this.ingress : rule.cidr_blocks] == [tolist(["172.20.0.0/19"])]
    error_message = "only the addresses of Airflow may connect"
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : contains(alarm.alarm_actions, aws_sns_topic.alarms.arn)]) && length(aws_cloudwatch_metric_alarm.this) == 3
    error_message = "the alarms on storage, CPU and connections must notify the topic"
  }

  assert {
    condition = { for key, alarm in aws_cloudwatch_metric_alarm.this : key => "${alarm.comparison_operator} ${alarm.threshold}" } == {
      connections = "GreaterThanThreshold 80"
      cpu         = "GreaterThanThreshold 80"
      storage     = "LessThanThreshold 5368709120" # bytes: 5 % of 100 GB
    }
    error_message = "the alarms must have these thresholds"
  }

  assert {
    condition     = contains(flatten([for statement in data.aws_iam_policy_document.key.statement : [for principal in statement.principals : tolist(principal.identifiers)]]), "cloudwatch.amazonaws.com")
    error_message = "CloudWatch must be allowed to use the key of the topic"
  }

  assert {
    condition     = alltrue([for group in aws_cloudwatch_log_group.this : group.retention_in_days == 30])
    error_message = "logs must be kept for 30 days"
  }

  assert {
    condition     = sort(aws_db_instance.this.enabled_cloudwatch_logs_exports) == tolist(["postgresql", "upgrade"]) && aws_db_instance.this.performance_insights_enabled
    error_message = "logs must be exported and Performance Insights enabled"
  }
}

run "nobody_can_connect_without_a_peering" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    client_cidrs = []
  }

  assert {
    condition     = length(aws_security_group.this.ingress) == 0
    error_message = "without client addresses there must be no rule"
  }
}

run "protection_is_removed_with_two_settings" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    deletion_protection = false
    unprotect           = "airlock-prod"
  }

  assert {
    condition     = !aws_db_instance.this.deletion_protection
    error_message = "with both settings, the protection must be off"
  }
}

run "refuses_access_for_everybody" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    client_cidrs = ["192.0.2.10/32", "0.0.0.0/0"]
  }

  expect_failures = [var.client_cidrs]
}

run "refuses_two_halves_of_the_internet" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    client_cidrs = ["0.0.0.0/1", "128.0.0.0/1"]
  }

  expect_failures = [var.client_cidrs]
}

run "refuses_an_unknown_environment" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    environment = "production"
  }

  expect_failures = [var.environment]
}

run "refuses_prod_without_protection" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    deletion_protection = false
  }

  expect_failures = [var.deletion_protection]
}

run "refuses_prod_with_one_day_of_backups" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    backup_retention_days = 1
  }

  expect_failures = [var.backup_retention_days]
}

run "refuses_prod_without_a_standby" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    multi_az = false
  }

  expect_failures = [var.multi_az]
}

run "refuses_a_storage_limit_without_room_to_grow" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    max_storage_gb = 110
  }

  expect_failures = [var.max_storage_gb]
}

run "refuses_a_malformed_email_address" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    alarm_emails = ["data-team@example"]
  }

  expect_failures = [var.alarm_emails]
}
