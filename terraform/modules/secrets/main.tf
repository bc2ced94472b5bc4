# Passwords are generated here, once per rotation. They never reach a plan or the state, because only ephemeral
# resources and write-only arguments hold them. The order is: write them to the secret `passwords`, read them back for
# the database, then for the connections, and record at the end that the rotation is complete. An apply that does not
# find this record starts the rotation again.
locals {
  users = {
    admin  = var.admin
    app    = "airlock_app"
    reader = "airlock_reader"
  }

  # The user that each Airflow connection logs in as.
  connections = merge(
    { for connection in var.app_connections : connection => "app" },
    { postgres_admin_conn = "admin", postgres_reader_conn = "reader" },
  )

  # Path in the Astro image of the root certificates that sign the certificates of RDS.
  root_certificates = "/usr/local/airflow/include/warehouse/rds-ca.crt"
}

resource "aws_kms_key" "this" {
  # checkov:skip=CKV2_AWS_64: the default key policy is enough: IAM of the account decides who may use the key
  description             = "Secrets of ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.name}-secrets"
  target_key_id = aws_kms_key.this.key_id
}

# Read from AWS, because the state records an update of the database as done even when it failed. Empty at first.
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
  # checkov:skip=CKV2_AWS_57: rotated by raising passwords_version: a DAG sets the roles' passwords, not a Lambda
  name                    = "${var.name}/passwords"
  description             = "Passwords of the warehouse roles as JSON; written by Terraform only"
  kms_key_id              = aws_kms_key.this.arn
  recovery_window_in_days = var.recovery_days
}

# Terraform replaces this resource, but Secrets Manager keeps the old version current until the new one is written.
resource "aws_secretsmanager_secret_version" "passwords" {
  secret_id = aws_secretsmanager_secret.passwords.id
  secret_string_wo = jsonencode({
    for role in keys(local.users) : role => ephemeral.aws_secretsmanager_random_password.new[role].random_password
  })
  secret_string_wo_version = local.rotation
}

# A plan reads this secret instead of the passwords, so that the role that plans needs no permission to read passwords.
resource "aws_secretsmanager_secret" "placeholder" {
  # checkov:skip=CKV2_AWS_57: it contains no secret value
  name                    = "${var.name}/placeholder"
  description             = "Contains no secret value: a plan reads it where an apply reads the passwords"
  kms_key_id              = aws_kms_key.this.arn
  recovery_window_in_days = var.recovery_days
}

resource "aws_secretsmanager_secret_version" "placeholder" {
  secret_id     = aws_secretsmanager_secret.placeholder.id
  secret_string = jsonencode({ for role in keys(local.users) : role => "not a password" })
}

# Read back from the secret: every plan and apply generates new passwords, but only those in the secret are in use.
ephemeral "aws_secretsmanager_secret_version" "passwords" {
  secret_id = terraform.applying ? aws_secretsmanager_secret_version.passwords.arn : aws_secretsmanager_secret_version.placeholder.arn
}

locals {
  passwords = jsondecode(ephemeral.aws_secretsmanager_secret_version.passwords.secret_string)
  # A different number each time the passwords are written. Everything that depends on them is then written again.
  passwords_written = parseint(substr(md5(aws_secretsmanager_secret_version.passwords.version_id), 0, 7), 16)
}

resource "aws_secretsmanager_secret" "connection" {
  # checkov:skip=CKV2_AWS_57: rotated by raising passwords_version: a DAG sets the roles' passwords, not a Lambda
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
  # Terraform cannot compare the content, so the version must change whenever one of the values in it changes.
  secret_string_wo_version = parseint(substr(md5(jsonencode([
    local.passwords_written, var.database_address, var.database_port, var.database_name, local.users, local.root_certificates,
  ])), 0, 7), 16)
}

resource "aws_ssm_parameter" "done" {
  # checkov:skip=CKV2_AWS_34: it contains two numbers and no secret
  # checkov:skip=CKV_AWS_337: it contains two numbers and no secret
  name        = "/${var.name}/rotation/done"
  description = "The last password rotation that was completed"
  type        = "String"
  value       = jsonencode({ version = var.passwords_version, begun = local.rotation })

  # The connections depend on the database, because they contain its address.
  depends_on = [aws_secretsmanager_secret_version.connection]
}

# The API key of the dataset market: remove this resource by hand if you removed that dataset.
resource "aws_secretsmanager_secret" "polygon_api_key" {
  # checkov:skip=CKV2_AWS_57: the market API issues the key; a person stores a new one here
  name                    = "${var.name}/variables/POLYGON_API_KEY"
  description             = "Airflow variable POLYGON_API_KEY; a person stores the value"
  kms_key_id              = aws_kms_key.this.arn
  recovery_window_in_days = var.recovery_days
}
