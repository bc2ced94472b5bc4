# Three roles for the workflows, without a key anywhere: GitHub vouches for the repository and for the environment
# that a job runs in, and each role trusts one environment.
data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  partition = data.aws_partition.current.partition
  account   = data.aws_caller_identity.current.account_id
  issuer    = "token.actions.githubusercontent.com"

  # As terraform/bootstrap names them.
  state_bucket_arn = "arn:${local.partition}:s3:::airlock-state-${local.account}"

  roles = {
    # A pull request's plan compares code and state only: it reads no resource and no secret.
    plan = {
      description = "Plans ${var.name} for pull requests: reads its state, and nothing else"
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

data "aws_iam_policy_document" "state_read" {
  statement {
    sid       = "FindState"
    actions   = ["s3:ListBucket"]
    resources = [local.state_bucket_arn]
  }

  statement {
    sid       = "ReadState"
    actions   = ["s3:GetObject"]
    resources = ["${local.state_bucket_arn}/${var.state_key}"]
  }

  statement {
    sid       = "DecryptState"
    actions   = ["kms:Decrypt"]
    resources = ["arn:${local.partition}:kms:${var.region}:${local.account}:key/*"]

    condition {
      test     = "ForAnyValue:StringEquals"
      variable = "kms:ResourceAliases"
      values   = ["alias/airlock-state"]
    }
  }

  # A plan opens the ephemeral resources: a random password that goes nowhere, and the secret that holds nothing.
  statement {
    sid       = "RandomPassword"
    actions   = ["secretsmanager:GetRandomPassword"]
    resources = ["*"]
  }

  statement {
    sid       = "Placeholder"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = ["arn:${local.partition}:secretsmanager:${var.region}:${local.account}:secret:${var.name}/placeholder-*"]
  }

  statement {
    sid       = "DecryptPlaceholder"
    actions   = ["kms:Decrypt"]
    resources = [var.secrets_key_arn]

    condition {
      test     = "StringLike"
      variable = "kms:EncryptionContext:SecretARN"
      values   = ["arn:${local.partition}:secretsmanager:${var.region}:${local.account}:secret:${var.name}/placeholder-*"]
    }
  }
}

data "aws_iam_policy_document" "state_write" {
  statement {
    sid     = "WriteAndLockState"
    actions = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    resources = [
      "${local.state_bucket_arn}/${var.state_key}",
      "${local.state_bucket_arn}/${var.state_key}.tflock",
    ]
  }

  statement {
    sid       = "EncryptState"
    actions   = ["kms:GenerateDataKey"]
    resources = ["arn:${local.partition}:kms:${var.region}:${local.account}:key/*"]

    condition {
      test     = "ForAnyValue:StringEquals"
      variable = "kms:ResourceAliases"
      values   = ["alias/airlock-state"]
    }
  }
}

data "aws_iam_policy_document" "read" {
  # checkov:skip=CKV_AWS_108: reading the values of this environment's secrets is what Terraform's refresh does
  # checkov:skip=CKV_AWS_356: these actions take no resource, or the resources' ids are AWS' own
  statement {
    sid = "Describe"
    actions = [
      "cloudwatch:DescribeAlarms",
      "cloudwatch:ListTagsForResource",
      "ec2:DescribeInternetGateways",
      "ec2:DescribeNetworkAcls",
      "ec2:DescribeNetworkInterfaces",
      "ec2:DescribeRouteTables",
      "ec2:DescribeSecurityGroups",
      "ec2:DescribeSecurityGroupRules",
      "ec2:DescribeSubnets",
      "ec2:DescribeVpcAttribute",
      "ec2:DescribeVpcPeeringConnections",
      "ec2:DescribeVpcs",
      "kms:DescribeKey",
      "kms:GetKeyPolicy",
      "kms:GetKeyRotationStatus",
      "kms:ListAliases",
      "kms:ListResourceTags",
      "logs:DescribeLogGroups",
      "logs:ListTagsForResource",
      "rds:DescribeDBInstances",
      "rds:DescribeDBParameterGroups",
      "rds:DescribeDBParameters",
      "rds:DescribeDBSubnetGroups",
      "rds:ListTagsForResource",
      "sns:GetSubscriptionAttributes",
      "sns:GetTopicAttributes",
      "sns:ListTagsForResource",
    ]
    resources = ["*"]
  }

  statement {
    sid = "Roles"
    actions = [
      "iam:GetRole",
      "iam:GetRolePolicy",
      "iam:ListAttachedRolePolicies",
      "iam:ListInstanceProfilesForRole",
      "iam:ListRolePolicies",
      "iam:ListRoleTags",
    ]
    resources = ["arn:${local.partition}:iam::${local.account}:role/${var.name}-*"]
  }

  statement {
    sid       = "Buckets"
    actions   = ["s3:Get*Configuration", "s3:GetBucket*", "s3:ListBucket"]
    resources = ["arn:${local.partition}:s3:::${var.name}-*"]
  }

  statement {
    sid       = "Secrets"
    actions   = ["secretsmanager:DescribeSecret", "secretsmanager:GetResourcePolicy", "secretsmanager:GetSecretValue"]
    resources = ["arn:${local.partition}:secretsmanager:${var.region}:${local.account}:secret:${var.name}/*"]
  }

  statement {
    sid       = "DecryptSecrets"
    actions   = ["kms:Decrypt"]
    resources = [var.secrets_key_arn]
  }
}

data "aws_iam_policy_document" "write" {
  # checkov:skip=CKV_AWS_108: it makes the secrets, so it may read them
  # checkov:skip=CKV_AWS_109: it makes keys and roles; which roles is bound below
  # checkov:skip=CKV_AWS_111: what it makes has no name yet; the services are those of this platform
  # checkov:skip=CKV_AWS_356: what it makes has no name yet
  statement {
    sid       = "Platform"
    actions   = ["cloudwatch:*", "ec2:*", "kms:*", "logs:*", "rds:*", "sns:*"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = [var.region]
    }
  }

  statement {
    sid       = "Buckets"
    actions   = ["s3:*"]
    resources = ["arn:${local.partition}:s3:::${var.name}-*"]
  }

  statement {
    sid       = "Secrets"
    actions   = ["secretsmanager:*"]
    resources = ["arn:${local.partition}:secretsmanager:${var.region}:${local.account}:secret:${var.name}/*"]
  }

  statement {
    sid       = "Roles"
    actions   = ["iam:*Role", "iam:*RolePolicy", "iam:*RolePolicies", "iam:*RoleTags", "iam:ListInstanceProfilesForRole", "iam:UpdateAssumeRolePolicy"]
    resources = ["arn:${local.partition}:iam::${local.account}:role/${var.name}-*"]
  }

  # RDS makes this role for itself in a new account.
  statement {
    sid       = "RdsOwnRole"
    actions   = ["iam:CreateServiceLinkedRole"]
    resources = ["arn:${local.partition}:iam::${local.account}:role/aws-service-role/rds.amazonaws.com/*"]
  }

  # What the workflows may do is changed by a person: neither role widens itself or another.
  statement {
    sid    = "NotTheRolesOfTheWorkflows"
    effect = "Deny"
    actions = [
      "iam:AttachRolePolicy",
      "iam:CreateRole",
      "iam:DeleteRole",
      "iam:DeleteRolePolicy",
      "iam:DetachRolePolicy",
      "iam:PutRolePolicy",
      "iam:UpdateAssumeRolePolicy",
      "iam:UpdateRole",
    ]
    resources = [for role in ["plan", "drift", "deploy"] : "arn:${local.partition}:iam::${local.account}:role/${var.name}-${role}"]
  }
}
