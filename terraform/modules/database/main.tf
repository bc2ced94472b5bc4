locals {
  port = 5432
  # Fixed, so that the alarm on connections has a number to compare with. It is far more than the DAGs open at once.
  max_connections = 100
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

data "aws_iam_policy_document" "key" {
  # checkov:skip=CKV_AWS_109: in a key policy, "*" is the key itself
  # checkov:skip=CKV_AWS_111: in a key policy, "*" is the key itself
  # checkov:skip=CKV_AWS_356: in a key policy, "*" is the key itself
  statement {
    sid       = "Account"
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:root"]
    }
  }

  # AWS services write the logs and the alarms, which this key also encrypts.
  statement {
    sid       = "Logs"
    actions   = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["logs.${data.aws_region.current.name}.amazonaws.com"]
    }

    condition {
      test     = "ArnLike"
      variable = "kms:EncryptionContext:aws:logs:arn"
      values = [
        "arn:${data.aws_partition.current.partition}:logs:${data.aws_region.current.name}:${data.aws_caller_identity.current.account_id}:log-group:/aws/rds/instance/${var.name}/*"
      ]
    }
  }

  statement {
    sid       = "Alarms"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey*"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

resource "aws_kms_key" "this" {
  description             = "Storage, logs and alarms of the database ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = data.aws_iam_policy_document.key.json
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.name}-database"
  target_key_id = aws_kms_key.this.key_id
}

resource "aws_db_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_security_group" "this" {
  name        = "${var.name}-database"
  description = "Who may reach the database"
  vpc_id      = var.vpc_id

  # Inline, not separate rule resources: a plan then shows a rule that somebody added by hand, and an apply removes it.
  ingress = length(var.client_cidrs) == 0 ? [] : [{
    description      = "Postgres, from Airflow only"
    protocol         = "tcp"
    from_port        = local.port
    to_port          = local.port
    cidr_blocks      = var.client_cidrs
    ipv6_cidr_blocks = []
    prefix_list_ids  = []
    security_groups  = []
    self             = false
  }]
  egress = []
}

resource "aws_db_parameter_group" "this" {
  name        = "${var.name}-postgres${var.engine_version}"
  family      = "postgres${var.engine_version}"
  description = "Settings of the warehouse ${var.name}"

  parameter {
    name         = "rds.force_ssl"
    value        = "1"
    apply_method = "pending-reboot" # "immediate" would show a change in every plan
  }

  parameter {
    name         = "max_connections"
    value        = local.max_connections
    apply_method = "pending-reboot"
  }

  parameter {
    name  = "log_statement"
    value = "ddl" # safe: migrations send password verifiers, never passwords
  }

  parameter {
    name  = "log_min_duration_statement"
    value = "1000" # milliseconds
  }

  parameter {
    name  = "log_lock_waits"
    value = "1"
  }

  # A killed worker can leave a session open that still locks its batch. Postgres ends it after ten minutes.
  parameter {
    name  = "idle_in_transaction_session_timeout"
    value = "600000" # milliseconds
  }

  lifecycle {
    create_before_destroy = true
  }
}

# Created here, because a log group that RDS creates keeps its logs for ever and remains after a destroy.
resource "aws_cloudwatch_log_group" "this" {
  # checkov:skip=CKV_AWS_338: old database logs are not needed; the register and Git show what changed
  for_each = toset(["postgresql", "upgrade"])

  name              = "/aws/rds/instance/${var.name}/${each.key}"
  retention_in_days = 30
  kms_key_id        = aws_kms_key.this.arn
}

# The time of the first plan. It makes the name of the final snapshot different from that of an earlier database.
resource "terraform_data" "born" {
  input = plantimestamp()

  lifecycle {
    ignore_changes = [input]
  }
}

resource "aws_db_instance" "this" {
  # checkov:skip=CKV_AWS_17: public only for a STANDARD deployment, which cannot connect otherwise; see the README
  # checkov:skip=CKV_AWS_161: the Postgres connections of Airflow log in with passwords, which can be rotated
  # checkov:skip=CKV_AWS_118: Performance Insights and the alarms are enough for one database; this would add costs
  # checkov:skip=CKV_AWS_157: multi-AZ is a variable, and required for prod
  # checkov:skip=CKV_AWS_293: deletion protection is a variable, and required for prod
  identifier     = var.name
  engine         = "postgres"
  engine_version = var.engine_version
  instance_class = var.instance_class
  db_name        = var.database_name

  username            = var.admin
  password_wo         = var.admin_password
  password_wo_version = var.password_version

  storage_type          = "gp3"
  allocated_storage     = var.storage_gb
  max_allocated_storage = var.max_storage_gb
  storage_encrypted     = true
  kms_key_id            = aws_kms_key.this.arn

  db_subnet_group_name   = aws_db_subnet_group.this.name
  vpc_security_group_ids = [aws_security_group.this.id]
  publicly_accessible    = var.publicly_accessible
  port                   = local.port
  multi_az               = var.multi_az
  ca_cert_identifier     = "rds-ca-rsa2048-g1"

  parameter_group_name       = aws_db_parameter_group.this.name
  auto_minor_version_upgrade = true
  apply_immediately          = true # otherwise a change waits for the maintenance window and is reported as drift until then

  backup_retention_period   = var.backup_retention_days
  copy_tags_to_snapshot     = true
  deletion_protection       = var.deletion_protection
  delete_automated_backups  = true
  skip_final_snapshot       = var.environment != "prod"
  final_snapshot_identifier = "${var.name}-final-${formatdate("YYYYMMDDhhmm", terraform_data.born.output)}"

  performance_insights_enabled          = true
  performance_insights_kms_key_id       = aws_kms_key.this.arn
  performance_insights_retention_period = 7
  enabled_cloudwatch_logs_exports       = keys(aws_cloudwatch_log_group.this)

  timeouts {
    create = "60m"
  }
}

resource "aws_sns_topic" "alarms" {
  name              = "${var.name}-database-alarms"
  kms_master_key_id = aws_kms_key.this.id
}

resource "aws_sns_topic_subscription" "email" {
  for_each = var.alarm_emails

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.value
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = {
    storage = {
      metric     = "FreeStorageSpace"
      comparison = "LessThanThreshold"
      threshold  = 0.05 * var.storage_gb * pow(1024, 3) # bytes; RDS grows the storage when 10 % is free
      advice     = "the storage is nearly full and has not grown: raise max_storage_gb"
    }
    cpu = {
      metric     = "CPUUtilization"
      comparison = "GreaterThanThreshold"
      threshold  = 80 # per cent
      advice     = "high CPU load for 15 minutes: see CloudWatch Database Insights, or raise instance_class"
    }
    connections = {
      metric     = "DatabaseConnections"
      comparison = "GreaterThanThreshold"
      threshold  = 0.8 * local.max_connections
      advice     = "80 % of the connections are in use: pg_stat_activity shows by whom"
    }
  }

  alarm_name          = "${var.name}-database-${each.key}"
  alarm_description   = "Database ${var.name}: ${each.value.advice}"
  namespace           = "AWS/RDS"
  metric_name         = each.value.metric
  dimensions          = { DBInstanceIdentifier = aws_db_instance.this.identifier }
  statistic           = "Average"
  period              = 300
  evaluation_periods  = 3
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}
