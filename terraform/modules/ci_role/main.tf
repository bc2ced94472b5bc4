# Three roles for the workflows, without any stored key. GitHub signs a token that names the repository and the
# environment of a job, and each role trusts one environment.
data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  partition = data.aws_partition.current.partition
  account   = data.aws_caller_identity.current.account_id
  issuer    = "token.actions.githubusercontent.com"

  rotation_arn = "arn:${local.partition}:ssm:${var.region}:${local.account}:parameter/${var.name}/rotation*"

  # The name that terraform/bootstrap gives the bucket.
  state_bucket_arn = "arn:${local.partition}:s3:::airlock-state-${local.account}"

  roles = {
    # The plan of a pull request compares the code with the state only. It reads no resource and no secret.
    plan = {
      description = "Plans ${var.name} for pull requests: reads its state, but no resource and no secret"
      environment = "${var.environment}-plan"
      policies    = [data.aws_iam_policy_document.state_read.json]
    }
    # The nightly comparison with the real resources. Terraform's refresh also reads the values of the secrets.
    drift = {
      description = "Compares ${var.name} with its code: reads everything, writes nothing"
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
  # checkov:skip=CKV_AWS_358: limited to one repository and one environment, by variables that checkov does not resolve
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
  max_session_duration = 7200 # seconds; creating a multi-AZ database takes up to an hour
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
