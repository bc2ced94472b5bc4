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

run "every_bucket_is_private_encrypted_and_expires_objects" {
  command = plan

  module {
    source = "./modules/storage"
  }

  assert {
    condition = alltrue([
      for key in ["access-logs", "reports", "xcom"] : (
        aws_s3_bucket_public_access_block.this[key].block_public_policy &&
        aws_s3_bucket_public_access_block.this[key].restrict_public_buckets &&
        contains(keys(aws_s3_bucket_server_side_encryption_configuration.this), key) &&
        contains(keys(aws_s3_bucket_policy.this), key) &&
        aws_s3_bucket_lifecycle_configuration.this[key].rule[0].expiration[0].days > 0
      )
    ])
    error_message = "each bucket must be private and encrypted, with a policy and a lifecycle"
  }

  assert {
    condition = { for key, encryption in aws_s3_bucket_server_side_encryption_configuration.this : key => one(one(encryption.rule).apply_server_side_encryption_by_default).sse_algorithm } == {
      access-logs = "AES256", reports = "aws:kms", xcom = "aws:kms"
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
    condition     = join(" ", keys(aws_s3_bucket_logging.this)) == "reports xcom"
    error_message = "access to the two buckets with data must be logged, but not to the log itself"
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
    condition     = join(" ", keys(aws_s3_bucket.this)) == "reports xcom" && length(aws_s3_bucket_logging.this) == 0
    error_message = "without access_logged there must be no third bucket"
  }

  assert {
    condition     = alltrue([for bucket in aws_s3_bucket.this : bucket.force_destroy])
    error_message = "an unprotected bucket must be deleted with its objects"
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
