mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  name          = "airlock-test"
  protected     = true
  access_logged = true
  report_days   = 400
}

run "every_bucket_is_private_and_encrypted_and_expires_what_is_not_kept" {
  command = plan

  module {
    source = "./modules/storage"
  }

  assert {
    condition = alltrue([
      for key in ["access-logs", "exports", "reports", "xcom"] : (
        aws_s3_bucket_public_access_block.this[key].block_public_policy &&
        aws_s3_bucket_public_access_block.this[key].restrict_public_buckets &&
        contains(keys(aws_s3_bucket_server_side_encryption_configuration.this), key) &&
        contains(keys(aws_s3_bucket_policy.this), key) &&
        one(aws_s3_bucket_lifecycle_configuration.this[key].rule[0].abort_incomplete_multipart_upload).days_after_initiation == 1
      )
    ])
    error_message = "each bucket must be private and encrypted, with a policy and a lifecycle that aborts unfinished uploads"
  }

  assert {
    condition = alltrue([
      for key in ["access-logs", "reports", "xcom"] :
      one(aws_s3_bucket_lifecycle_configuration.this[key].rule[*]).expiration[0].days > 0
    ])
    error_message = "each bucket except the one of exports must delete old objects"
  }

  assert {
    condition = { for key, encryption in aws_s3_bucket_server_side_encryption_configuration.this : key => one(one(encryption.rule).apply_server_side_encryption_by_default).sse_algorithm } == {
      access-logs = "AES256", exports = "aws:kms", reports = "aws:kms", xcom = "aws:kms"
    }
    error_message = "the buckets with data must use the KMS key"
  }

  assert {
    condition = alltrue([for policy in data.aws_iam_policy_document.bucket :
      policy.statement[0].effect == "Deny" && policy.statement[0].actions == toset(["S3:*"]) &&
      one(policy.statement[0].condition).variable == "aws:SecureTransport"
    ])
    error_message = "everything must be denied without TLS"
  }

  assert {
    condition     = length(data.aws_iam_policy_document.bucket["access-logs"].statement) == 2
    error_message = "the log bucket must have a second statement that lets S3 deliver logs"
  }

  assert {
    condition     = join(" ", keys(aws_s3_bucket_versioning.this)) == "reports"
    error_message = "only the bucket of reports must be versioned"
  }

  assert {
    condition     = join(" ", keys(aws_s3_bucket_logging.this)) == "exports reports xcom"
    error_message = "access to the three buckets with data must be logged, but not to the log itself"
  }

  assert {
    condition     = alltrue([for bucket in aws_s3_bucket.this : !bucket.force_destroy])
    error_message = "a protected bucket must not be deleted with its objects"
  }
}

run "no_log_bucket_without_access_logged" {
  command = plan

  module {
    source = "./modules/storage"
  }

  variables {
    access_logged = false
    protected     = false
  }

  assert {
    condition     = join(" ", keys(aws_s3_bucket.this)) == "exports reports xcom" && length(aws_s3_bucket_logging.this) == 0
    error_message = "without access_logged there must be no bucket of logs"
  }

  assert {
    condition     = alltrue([for bucket in aws_s3_bucket.this : bucket.force_destroy])
    error_message = "an unprotected bucket must be deleted with its objects"
  }
}

run "exports_are_kept_archives_are_cheaper_and_temporary_objects_expire" {
  command = plan

  module {
    source = "./modules/storage"
  }

  assert {
    condition = [
      for rule in aws_s3_bucket_lifecycle_configuration.this["exports"].rule :
      "${rule.filter[0].prefix} ${rule.expiration[0].days}" if length(rule.expiration) > 0
    ] == ["temporary/ 1"]
    error_message = "only objects below temporary/ may expire, after a day"
  }

  assert {
    condition = [
      for rule in aws_s3_bucket_lifecycle_configuration.this["exports"].rule :
      "${rule.filter[0].prefix} ${one(rule.transition).days} ${one(rule.transition).storage_class}" if length(rule.transition) > 0
    ] == ["archive/ 0 GLACIER_IR"]
    error_message = "only objects below archive/ must go to the cheaper storage class, at once"
  }
}

run "refuses_a_storage_class_that_is_no_archive" {
  command = plan

  module {
    source = "./modules/storage"
  }

  variables {
    archive_storage_class = "STANDARD"
  }

  expect_failures = [var.archive_storage_class]
}

run "airflow_gets_each_bucket_with_data_and_not_the_logs" {
  command = apply # with mocks: nothing is created

  module {
    source = "./modules/storage"
  }

  assert {
    condition     = toset(output.bucket_arns) == toset([for key in ["exports", "reports", "xcom"] : aws_s3_bucket.this[key].arn])
    error_message = "bucket_arns must have the buckets that Airflow reads and writes, and no other"
  }
}

run "refuses_to_keep_reports_less_than_the_report_shows" {
  command = plan

  module {
    source = "./modules/storage"
  }

  variables {
    report_days = 30
  }

  expect_failures = [var.report_days]
}
