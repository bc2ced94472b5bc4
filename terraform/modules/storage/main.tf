data "aws_caller_identity" "current" {}

locals {
  buckets = merge(
    {
      reports = {
        versioned = true # a page that was overwritten by mistake can be got back
        days      = var.report_days
        algorithm = "aws:kms"
      }
      xcom = {
        versioned = false # values between tasks: of no use once the run is over
        days      = var.xcom_days
        algorithm = "aws:kms"
      }
    },
    var.access_logged ? {
      access-logs = {
        versioned = false # S3 writes a log once and nobody changes it
        days      = 365
        algorithm = "AES256" # S3 delivers its logs to buckets with its own key only
      }
    } : {}
  )
  logged = toset(var.access_logged ? ["reports", "xcom"] : [])
}

resource "aws_kms_key" "this" {
  # checkov:skip=CKV2_AWS_64: the policy that AWS gives a key: whom the account's IAM allows
  description             = "Reports and XCom values of ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.name}-storage"
  target_key_id = aws_kms_key.this.key_id
}

resource "aws_s3_bucket" "this" {
  # checkov:skip=CKV2_AWS_6: made for each bucket below; checkov does not follow for_each
  # checkov:skip=CKV_AWS_19: made for each bucket below; checkov does not follow for_each
  # checkov:skip=CKV_AWS_144: reports can be written anew from the warehouse, the rest lives for days: no second region
  # checkov:skip=CKV2_AWS_62: nothing waits for an object to arrive
  # checkov:skip=CKV_AWS_18: logged in prod, where access_logged is set
  # checkov:skip=CKV_AWS_21: versioned where the table above says so, with the reason
  # checkov:skip=CKV_AWS_145: with a key of its own, but for the logs: see the table above
  for_each = local.buckets

  # Names of buckets are taken once for all accounts of the world: the account's number makes them ours.
  bucket        = "${var.name}-${each.key}-${data.aws_caller_identity.current.account_id}"
  force_destroy = !var.protected
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = aws_s3_bucket.this

  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    bucket_key_enabled = each.value.algorithm == "aws:kms"

    apply_server_side_encryption_by_default {
      sse_algorithm     = each.value.algorithm
      kms_master_key_id = each.value.algorithm == "aws:kms" ? aws_kms_key.this.arn : null
    }
  }
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = { for key, bucket in local.buckets : key => bucket if bucket.versioned }

  bucket = aws_s3_bucket.this[each.key].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    id     = "expire"
    status = "Enabled"

    filter {}

    # Pages that are still written, the home page among them, are never that old.
    expiration {
      days = each.value.days
    }

    noncurrent_version_expiration {
      noncurrent_days = 30
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

data "aws_iam_policy_document" "bucket" {
  for_each = aws_s3_bucket.this

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["S3:*"] # AWS knows no case here; the stand-in of AWS, which knows no conditions, does, and passes it over
    resources = [each.value.arn, "${each.value.arn}/*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  dynamic "statement" {
    for_each = each.key == "access-logs" ? [1] : []

    content {
      sid       = "Delivery"
      actions   = ["s3:PutObject"]
      resources = ["${each.value.arn}/*"]

      principals {
        type        = "Service"
        identifiers = ["logging.s3.amazonaws.com"]
      }

      condition {
        test     = "ArnLike"
        variable = "aws:SourceArn"
        values   = [for key in local.logged : aws_s3_bucket.this[key].arn]
      }
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id
  policy = data.aws_iam_policy_document.bucket[each.key].json

  depends_on = [aws_s3_bucket_public_access_block.this] # S3 refuses two of these changes at once
}

resource "aws_s3_bucket_logging" "this" {
  for_each = local.logged

  bucket        = aws_s3_bucket.this[each.key].id
  target_bucket = aws_s3_bucket.this["access-logs"].id
  target_prefix = "${each.key}/"

  depends_on = [aws_s3_bucket_policy.this]
}
