# The environment dev: this file connects the modules. Sizes that only dev has are here or in variables.tf.
locals {
  environment = "dev"
  name        = "airlock-${local.environment}"
  state_key   = "dev/terraform.tfstate" # same as in versions.tf, where a backend cannot use a local

  standard      = var.deployment_type == "STANDARD"
  database_name = "warehouse"
  admin         = "airlock_admin"
  report_days   = 400

  # The Airflow connections that the datasets declare, so that a new dataset needs no change here.
  datasets = "${path.module}/../../../include/datasets"
  app_connections = toset(flatten([
    for file in fileset(local.datasets, "*/dataset.py") :
    regexall("(?m)^[^#\n]*\\bconnection\\s*=\\s*\"([^\"]*)\"", file("${local.datasets}/${file}"))
  ]))
}

module "network" {
  source = "../../modules/network"

  name               = local.name
  cidr               = var.network_cidr
  availability_zones = var.availability_zones
  internet_access    = local.standard
  peering            = var.peering
}

module "database" {
  source = "../../modules/database"

  name                  = local.name
  environment           = local.environment
  instance_class        = var.database_instance_class
  storage_gb            = var.database_storage_gb
  max_storage_gb        = var.database_max_storage_gb
  multi_az              = false
  backup_retention_days = var.database_backup_retention_days
  deletion_protection   = var.database_deletion_protection
  unprotect             = var.unprotect_database

  vpc_id              = module.network.vpc_id
  subnet_ids          = module.network.subnet_ids
  publicly_accessible = local.standard
  client_cidrs        = local.standard ? module.astro.external_cidrs : var.peering[*].astro_cidr

  database_name    = local.database_name
  admin            = local.admin
  admin_password   = module.secrets.admin_password
  password_version = module.secrets.passwords_written
  alarm_emails     = var.contact_emails
}

module "secrets" {
  source = "../../modules/secrets"

  name              = local.name
  passwords_version = var.passwords_version
  recovery_days     = 0
  app_connections   = local.app_connections
  admin             = local.admin
  database_name     = local.database_name
  database_address  = module.database.address
  database_port     = module.database.port
}

module "storage" {
  source = "../../modules/storage"

  name          = local.name
  protected     = var.database_deletion_protection
  access_logged = false
  report_days   = local.report_days
}

module "astro" {
  source = "../../modules/astro"

  name            = local.name
  region          = var.region
  deployment_type = var.deployment_type
  cluster_id      = var.cluster_id
  # The runtime of the image, so that its version is written once.
  runtime_version   = regex("runtime:([0-9.]+-[0-9]+)", file("${path.module}/../../../Dockerfile"))[0]
  high_availability = false
  hibernation       = { sleep_cron = "0 19 * * *", wake_cron = "0 7 * * 1-5" }
  worker            = { machine = "A5", min_count = 0, max_count = 2, concurrency = 5 }
  contact_emails    = var.contact_emails
  deadlines         = var.deadlines

  connections_prefix = module.secrets.connections_prefix
  variables_prefix   = module.secrets.variables_prefix
  secret_arns        = module.secrets.secret_arns
  secrets_key_arn    = module.secrets.key_arn
  report_bucket      = module.storage.report_bucket
  report_days        = local.report_days
  xcom_bucket        = module.storage.xcom_bucket
  export_bucket      = module.storage.export_bucket
  bucket_arns        = module.storage.bucket_arns
  storage_key_arn    = module.storage.key_arn

  permissions_boundary_arn = module.ci_role.airflow_boundary_arn
}

module "ci_role" {
  source = "../../modules/ci_role"

  name            = local.name
  environment     = local.environment
  region          = var.region
  repository      = var.repository
  state_key       = local.state_key
  secrets_key_arn = module.secrets.key_arn
  storage_key_arn = module.storage.key_arn
}
