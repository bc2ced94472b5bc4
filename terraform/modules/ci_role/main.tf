# Three roles for the workflows, without a key anywhere: GitHub vouches for the repository and for the environment
# that a job runs in, and each role trusts one environment.
data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  partition = data.aws_partition.current.partition
  account   = data.aws_caller_identity.current.account_id
  issuer    = "token.actions.githubusercontent.com"

  rotation_arn = "arn:${local.partition}:ssm:${var.region}:${local.account}:parameter/${var.name}/rotation*"

  # As terraform/bootstrap names them.
  state_bucket_arn = "arn:${local.partition}:s3:::airlock-state-${local.account}"

  roles = {
    # A pull request's plan compares code and state only: it looks at no resource and no secret.
    plan = {
      description = "Plans ${var.name} for pull requests: reads its state, and no resource or secret"
      environment = "${var.environment}-plan"
      policies    = [data.aws_iam_policy_document.state_read.json]
    }
    # The nightly comparison with what is there; Terraform's refresh reads the secrets' values, too.
    drift = {
      description = "Compares ${var.name} with its code: reads everything of it, writes nothing"
      environment = "${var.environment}-drift"
      policies    = [data.aws_iam_policy_document.state_read.json, data.aws_iam_policy_document.read.json]
    }
    deploy = {
      description = "Applies ${var.name}"
      environment = var.environment
      policies = [
        data.aws_iam_policy_document.state_read.json,
        data.aws_iam_policy_document.state_write.json,
        data.aws_iam_policy_document.read.json,
        data.aws_iam_policy_document.write.json,
      ]
    }
  }
}

data "aws_iam_policy_document" "trust" {
  # checkov:skip=CKV_AWS_358: bound to one repository and one environment of it, by variables that checkov does not follow
  for_each = local.roles

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = ["arn:${local.partition}:iam::${local.account}:oidc-provider/${local.issuer}"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = ["repo:${var.repository}:environment:${each.value.environment}"]
    }
  }
}

resource "aws_iam_role" "this" {
  for_each = local.roles

  name                 = "${var.name}-${each.key}"
  description          = each.value.description
  assume_role_policy   = data.aws_iam_policy_document.trust[each.key].json
  max_session_duration = 7200 # seconds; making a multi-AZ database takes up to an hour
}

data "aws_iam_policy_document" "role" {
  for_each = local.roles

  source_policy_documents = each.value.policies
}

resource "aws_iam_role_policy" "this" {
  for_each = local.roles

  name   = each.key
  role   = aws_iam_role.this[each.key].id
  policy = data.aws_iam_policy_document.role[each.key].json
}
