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

run "every_bucket_is_private_encrypted_and_emptied_in_time" {
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
    error_message = "each bucket is private, encrypted, has its policy and its life cycle"
  }

  assert {
    condition = { for key, each in aws_s3_bucket_server_side_encryption_configuration.this : key => one(one(each.rule).apply_server_side_encryption_by_default).sse_algorithm } == {
      access-logs = "AES256", reports = "aws:kms", xcom = "aws:kms"
    }
    error_message = "data is encrypted with a key of its own"
  }

  assert {
    condition = alltrue([for policy in data.aws_iam_policy_document.bucket :
      policy.statement[0].effect == "Deny" && policy.statement[0].actions == toset(["S3:*"]) &&
      one(policy.statement[0].condition).variable == "aws:SecureTransport"
    ])
    error_message = "without TLS, everything is denied"
  }

  assert {
    condition     = length(data.aws_iam_policy_document.bucket["access-logs"].statement) == 2
    error_message = "S3 may deliver its logs"
  }

  assert {
    condition     = join(" ", keys(aws_s3_bucket_versioning.this)) == "reports"
    error_message = "reports are versioned"
  }

  assert {
    condition     = join(" ", keys(aws_s3_bucket_logging.this)) == "reports xcom"
    error_message = "the two buckets with data are logged, the log itself is not"
  }

  assert {
    condition     = alltrue([for bucket in aws_s3_bucket.this : !bucket.force_destroy])
    error_message = "a protected bucket is not deleted with its objects"
  }
}

run "no_log_unless_asked" {
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
    error_message = "without access_logged there is no third bucket"
  }

  assert {
    condition     = alltrue([for bucket in aws_s3_bucket.this : bucket.force_destroy])
    error_message = "an unprotected bucket goes with its objects"
  }
}

run "refuses_to_forget_what_the_report_shows" {
  command = plan

  module {
    source = "./modules/storage"
  }

  variables {
    report_days = 30
  }

  expect_failures = [var.report_days]
}
