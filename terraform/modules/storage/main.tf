data "aws_caller_identity" "current" {}

locals {
  buckets = merge(
    {
      reports = {
        versioned = true # a page that was overwritten by mistake can be restored
        days      = var.report_days
        algorithm = "aws:kms"
      }
      xcom = {
        versioned = false # values between tasks are not needed after the run
        days      = var.xcom_days
        algorithm = "aws:kms"
      }
      exports = {
        versioned = false # a rerun writes a day's object again, from the warehouse
        days      = null  # exports are kept; the lifecycle below has rules of their own
        algorithm = "aws:kms"
      }
    },
    var.access_logged ? {
      access-logs = {
        versioned = false # S3 writes each log once, and nothing changes it
        days      = 365
        algorithm = "AES256" # S3 delivers logs only to buckets that use its own key
      }
    } : {}
  )
  logged = toset(var.access_logged ? ["reports", "xcom", "exports"] : [])
}

resource "aws_kms_key" "this" {
  # checkov:skip=CKV2_AWS_64: the default key policy is enough: IAM of the account decides who may use the key
  description             = "Reports, XCom values and exports of ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.name}-storage"
  target_key_id = aws_kms_key.this.key_id
}

resource "aws_s3_bucket" "this" {
  # checkov:skip=CKV2_AWS_6: set for each bucket below; checkov does not resolve for_each
  # checkov:skip=CKV_AWS_19: set for each bucket below; checkov does not resolve for_each
  # checkov:skip=CKV_AWS_144: reports and exports come from the warehouse, the rest is short-lived: no second region
  # checkov:skip=CKV2_AWS_62: nothing has to react to new objects
  # checkov:skip=CKV_AWS_18: prod logs access, because access_logged is set there
  # checkov:skip=CKV_AWS_21: local.buckets above says which buckets are versioned, and why
  # checkov:skip=CKV_AWS_145: all use the KMS key except the access logs: see local.buckets above
  for_each = local.buckets

  # Bucket names are unique across all AWS accounts, so the name contains the account number.
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
  # checkov:skip=CKV_AWS_300: the first rule aborts failed uploads; checkov loses it beside the dynamic rules
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    id     = "expire"
    status = "Enabled"

    filter {}

    # Pages that are still written, such as the home page, never get that old.
    dynamic "expiration" {
      for_each = each.value.days[*]

      content {
        days = expiration.value
      }
    }

    noncurrent_version_expiration {
      noncurrent_days = 30
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  dynamic "rule" {
    for_each = each.key == "exports" ? [1] : []

    content {
      id     = "archive"
      status = "Enabled"

      filter {
        prefix = "archive/"
      }

      # An object is old when it is moved here. S3 leaves objects under 128 KB where they are: to move one costs more.
      transition {
        days          = 0
        storage_class = var.archive_storage_class
      }
    }
  }

  dynamic "rule" {
    for_each = each.key == "exports" ? [1] : []

    content {
      id     = "temporary"
      status = "Enabled"

      filter {
        prefix = "temporary/"
      }

      # What a killed export left: a finished one is moved to exports/.
      expiration {
        days = 1
      }
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

data "aws_iam_policy_document" "bucket" {
  for_each = aws_s3_bucket.this

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["S3:*"] # AWS ignores case here. moto ignores the condition and would deny everything if it were "s3:*"
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

  depends_on = [aws_s3_bucket_public_access_block.this] # S3 refuses both changes at the same time
}

resource "aws_s3_bucket_logging" "this" {
  for_each = local.logged

  bucket        = aws_s3_bucket.this[each.key].id
  target_bucket = aws_s3_bucket.this["access-logs"].id
  target_prefix = "${each.key}/"

  depends_on = [aws_s3_bucket_policy.this]
}
