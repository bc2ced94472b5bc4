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

run "prod_is_private_encrypted_doubled_and_kept" {
  command = apply # with mocks: nothing is made

  module {
    source = "./modules/database"
  }

  assert {
    condition = (
      aws_db_instance.this.storage_encrypted && aws_db_instance.this.multi_az && aws_db_instance.this.deletion_protection &&
      !aws_db_instance.this.publicly_accessible && !aws_db_instance.this.skip_final_snapshot &&
      aws_db_instance.this.backup_retention_period == 14 && aws_db_instance.this.kms_key_id == aws_kms_key.this.arn
    )
    error_message = "prod is encrypted with its own key, doubled, protected, private and backed up"
  }

  assert {
    condition     = aws_db_instance.this.storage_type == "gp3" && aws_db_instance.this.max_allocated_storage == 500
    error_message = "the storage is gp3 and grows up to the limit"
  }

  assert {
    condition     = { for each in aws_db_parameter_group.this.parameter : each.name => each.value }["rds.force_ssl"] == "1"
    error_message = "TLS is forced"
  }

  assert {
    condition     = [for rule in aws_security_group.this.ingress : rule.cidr_blocks] == [tolist(["172.20.0.0/19"])]
    error_message = "only Airflow's addresses are let in"
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : contains(alarm.alarm_actions, aws_sns_topic.alarms.arn)]) && length(aws_cloudwatch_metric_alarm.this) == 3
    error_message = "storage, CPU and connections are told to the topic"
  }

  assert {
    condition = { for key, alarm in aws_cloudwatch_metric_alarm.this : key => "${alarm.comparison_operator} ${alarm.threshold}" } == {
      connections = "GreaterThanThreshold 80"
      cpu         = "GreaterThanThreshold 80"
      storage     = "LessThanThreshold 5368709120" # bytes: a twentieth of 100 GB
    }
    error_message = "the alarms go off at these"
  }

  assert {
    condition     = contains(flatten([for statement in data.aws_iam_policy_document.key.statement : [for principal in statement.principals : tolist(principal.identifiers)]]), "cloudwatch.amazonaws.com")
    error_message = "alarms may use the topic's key"
  }

  assert {
    condition     = alltrue([for group in aws_cloudwatch_log_group.this : group.retention_in_days == 30])
    error_message = "logs are kept for a month, and not for ever"
  }

  assert {
    condition     = sort(aws_db_instance.this.enabled_cloudwatch_logs_exports) == tolist(["postgresql", "upgrade"]) && aws_db_instance.this.performance_insights_enabled
    error_message = "logs are exported, Performance Insights is on"
  }
}

run "nobody_is_let_in_while_there_is_no_peering" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    client_cidrs = []
  }

  assert {
    condition     = length(aws_security_group.this.ingress) == 0
    error_message = "no address, no rule"
  }
}

run "protection_is_lifted_by_saying_it_twice" {
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
    error_message = "said twice, it is lifted"
  }
}

run "refuses_everybody" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    client_cidrs = ["192.0.2.10/32", "0.0.0.0/0"]
  }

  expect_failures = [var.client_cidrs]
}

run "refuses_half_of_everybody" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    client_cidrs = ["0.0.0.0/1", "128.0.0.0/1"]
  }

  expect_failures = [var.client_cidrs]
}

run "refuses_an_environment_that_is_none" {
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

run "refuses_prod_with_a_day_of_backups" {
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

run "refuses_a_limit_that_lets_nothing_grow" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    max_storage_gb = 110
  }

  expect_failures = [var.max_storage_gb]
}

run "refuses_a_malformed_address" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    alarm_emails = ["data-team@example"]
  }

  expect_failures = [var.alarm_emails]
}
