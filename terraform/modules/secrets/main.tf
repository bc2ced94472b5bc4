# Passwords are made here, once a rotation, and never reach a plan or the state: ephemeral resources and write-only
# arguments. They are first written to the secret `passwords`, then read back from there for the database, then for the
# connections; that all of it was done is noted last. An apply that finds no such note begins the rotation anew.
locals {
  users = {
    admin  = var.admin
    app    = "airlock_app"
    reader = "airlock_reader"
  }

  # Airflow's connections, by whom they log in as.
  connections = {
    postgres_admin_conn             = "admin"
    postgres_market_conn            = "app"
    postgres_daily_operational_conn = "app"
    postgres_reader_conn            = "reader"
  }

  # Where the Astro image has the certificates that know RDS.
  root_certificates = "/usr/local/airflow/include/warehouse/rds-ca.crt"
}

resource "aws_kms_key" "this" {
  # checkov:skip=CKV2_AWS_64: the policy that AWS gives a key: whom the account's IAM allows
  description             = "Secrets of ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.name}-secrets"
  target_key_id = aws_kms_key.this.key_id
}

# Asked of AWS and not of the state, which takes an update of the database that failed for done. Empty before the first.
data "aws_ssm_parameters_by_path" "done" {
  path = "/${var.name}/rotation"
}

locals {
  done     = try(jsondecode(nonsensitive(one(data.aws_ssm_parameters_by_path.done.values))), { version = 0, begun = 0 })
  rotation = local.done.version == var.passwords_version ? local.done.begun : tonumber(formatdate("YYYYMMDDhhmmss", plantimestamp()))
}

ephemeral "aws_secretsmanager_random_password" "new" {
  for_each = local.users

  password_length     = 40
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "passwords" {
  # checkov:skip=CKV2_AWS_57: rotated by raising passwords_version: the roles' passwords are set by a DAG, not by a Lambda
  name                    = "${var.name}/passwords"
  description             = "Passwords of the warehouse's roles, as JSON; written by Terraform only"
  kms_key_id              = aws_kms_key.this.arn
  recovery_window_in_days = var.recovery_days
}

# A new version replaces the old one in Terraform only: in Secrets Manager the old one is current until the new one is.
resource "aws_secretsmanager_secret_version" "passwords" {
  secret_id = aws_secretsmanager_secret.passwords.id
  secret_string_wo = jsonencode({
    for role in keys(local.users) : role => ephemeral.aws_secretsmanager_random_password.new[role].random_password
  })
  secret_string_wo_version = local.rotation
}

# What a plan opens in place of the passwords: who plans need not be allowed to read them.
resource "aws_secretsmanager_secret" "placeholder" {
  # checkov:skip=CKV2_AWS_57: it holds nothing
  name                    = "${var.name}/placeholder"
  description             = "Holds nothing: a plan reads it where an apply reads the passwords"
  kms_key_id              = aws_kms_key.this.arn
  recovery_window_in_days = var.recovery_days
}

resource "aws_secretsmanager_secret_version" "placeholder" {
  secret_id     = aws_secretsmanager_secret.placeholder.id
  secret_string = jsonencode({ for role in keys(local.users) : role => "not a password" })
}

# Read back: every plan and apply makes new passwords, and all that follows must have the ones that were written.
ephemeral "aws_secretsmanager_secret_version" "passwords" {
  secret_id = terraform.applying ? aws_secretsmanager_secret_version.passwords.arn : aws_secretsmanager_secret_version.placeholder.arn
}

locals {
  passwords = jsondecode(ephemeral.aws_secretsmanager_secret_version.passwords.secret_string)
  # Another number whenever the passwords were written anew, for whatever reason: then all that follows is, too.
  passwords_written = parseint(substr(md5(aws_secretsmanager_secret_version.passwords.version_id), 0, 7), 16)
}

resource "aws_secretsmanager_secret" "connection" {
  # checkov:skip=CKV2_AWS_57: rotated by raising passwords_version: the roles' passwords are set by a DAG, not by a Lambda
  for_each = local.connections

  name                    = "${var.name}/connections/${each.key}"
  description             = "Airflow connection ${each.key}; written by Terraform only"
  kms_key_id              = aws_kms_key.this.arn
  recovery_window_in_days = var.recovery_days
}

resource "aws_secretsmanager_secret_version" "connection" {
  for_each = local.connections

  secret_id = aws_secretsmanager_secret.connection[each.key].id
  secret_string_wo = jsonencode({
    conn_type = "postgres"
    host      = var.database_address
    port      = var.database_port
    schema    = var.database_name
    login     = local.users[each.value]
    password  = local.passwords[each.value]
    extra     = { sslmode = "verify-full", sslrootcert = local.root_certificates }
  })
  # What is in it is compared with nothing, so whatever it is made of has to show here.
  secret_string_wo_version = parseint(substr(md5(jsonencode([
    local.passwords_written, var.database_address, var.database_port, var.database_name, local.users, local.root_certificates,
  ])), 0, 7), 16)
}

resource "aws_ssm_parameter" "done" {
  # checkov:skip=CKV2_AWS_34: it holds two numbers, and no secret
  # checkov:skip=CKV_AWS_337: it holds two numbers, and no secret
  name        = "/${var.name}/rotation/done"
  description = "The last rotation of passwords that reached its end"
  type        = "String"
  value       = jsonencode({ version = var.passwords_version, begun = local.rotation })

  # The connections, and so the database, whose address is in them.
  depends_on = [aws_secretsmanager_secret_version.connection]
}

resource "aws_secretsmanager_secret" "polygon_api_key" {
  # checkov:skip=CKV2_AWS_57: the key is made at the market API; a new one is put here by hand
  name                    = "${var.name}/variables/POLYGON_API_KEY"
  description             = "Airflow variable POLYGON_API_KEY: the value is put here by hand"
  kms_key_id              = aws_kms_key.this.arn
  recovery_window_in_days = var.recovery_days
}
