# The policies. main.tf lists which role has which policies.
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
    resources = ["arn:${local.partition}:kms:*:${local.account}:key/*"]

    condition {
      test     = "ForAnyValue:StringEquals"
      variable = "kms:ResourceAliases"
      values   = ["alias/airlock-state"]
    }
  }

  statement {
    sid       = "RotationDone"
    actions   = ["ssm:GetParametersByPath"]
    resources = [local.rotation_arn]
  }

  # A plan opens the ephemeral resources: a random password that is not used, and the placeholder secret.
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
    resources = ["arn:${local.partition}:kms:*:${local.account}:key/*"]

    condition {
      test     = "ForAnyValue:StringEquals"
      variable = "kms:ResourceAliases"
      values   = ["alias/airlock-state"]
    }
  }
}

data "aws_iam_policy_document" "read" {
  # checkov:skip=CKV_AWS_108: Terraform's refresh reads the values of this environment's secrets
  # checkov:skip=CKV_AWS_356: these actions accept no resource, or AWS chooses the ids of the resources
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
      "ssm:DescribeParameters",
    ]
    resources = ["*"]
  }

  statement {
    sid       = "Rotation"
    actions   = ["ssm:GetParameter", "ssm:GetParameters", "ssm:ListTagsForResource"]
    resources = [local.rotation_arn]
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
    sid       = "Boundary"
    actions   = ["iam:GetPolicy", "iam:GetPolicyVersion", "iam:ListPolicyVersions"]
    resources = ["arn:${local.partition}:iam::${local.account}:policy/${var.name}-*"]
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
  # checkov:skip=CKV_AWS_108: this role creates the secrets, so it may read them
  # checkov:skip=CKV_AWS_109: this role creates keys; the one role that it may write has a permissions boundary
  # checkov:skip=CKV_AWS_111: networks and keys have no name before they exist
  # checkov:skip=CKV_AWS_356: networks and keys have no name before they exist
  statement {
    sid       = "NetworkAndKeys"
    actions   = ["ec2:*", "kms:*"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = [var.region]
    }
  }

  statement {
    sid     = "ByName"
    actions = ["cloudwatch:*", "logs:*", "rds:*", "s3:*", "secretsmanager:*", "sns:*", "ssm:*"]
    resources = [
      "arn:${local.partition}:cloudwatch:${var.region}:${local.account}:alarm:${var.name}-*",
      "arn:${local.partition}:logs:${var.region}:${local.account}:log-group:/aws/rds/instance/${var.name}/*",
      "arn:${local.partition}:rds:${var.region}:${local.account}:*:${var.name}",
      "arn:${local.partition}:rds:${var.region}:${local.account}:*:${var.name}-*",
      "arn:${local.partition}:s3:::${var.name}-*",
      "arn:${local.partition}:secretsmanager:${var.region}:${local.account}:secret:${var.name}/*",
      "arn:${local.partition}:sns:${var.region}:${local.account}:${var.name}-*",
      local.rotation_arn,
    ]
  }

  # The only role that a deploy may write, and only with its permissions boundary, which a deploy cannot change. So a
  # deploy cannot grant itself or anybody else more permissions. A person changes the roles of the workflows.
  statement {
    sid       = "AirflowsRole"
    actions   = ["iam:CreateRole", "iam:DeleteRolePolicy", "iam:PutRolePolicy"]
    resources = ["arn:${local.partition}:iam::${local.account}:role/${var.name}-airflow"]

    condition {
      test     = "StringEquals"
      variable = "iam:PermissionsBoundary"
      values   = [aws_iam_policy.airflow_boundary.arn]
    }
  }

  statement {
    sid       = "AirflowsRoleItself"
    actions   = ["iam:DeleteRole", "iam:TagRole", "iam:UntagRole", "iam:UpdateAssumeRolePolicy", "iam:UpdateRole"]
    resources = ["arn:${local.partition}:iam::${local.account}:role/${var.name}-airflow"]
  }

  # RDS creates this role for itself in a new account.
  statement {
    sid       = "RdsOwnRole"
    actions   = ["iam:CreateServiceLinkedRole"]
    resources = ["arn:${local.partition}:iam::${local.account}:role/aws-service-role/rds.amazonaws.com/*"]
  }
}

# The most that the Airflow role can be granted, whoever writes its policy.
data "aws_iam_policy_document" "airflow_boundary" {
  statement {
    sid       = "Buckets"
    actions   = ["s3:*"]
    resources = ["arn:${local.partition}:s3:::${var.name}-*"]
  }

  statement {
    sid       = "Secrets"
    actions   = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"]
    resources = ["arn:${local.partition}:secretsmanager:${var.region}:${local.account}:secret:${var.name}/*"]
  }

  statement {
    sid       = "Keys"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.secrets_key_arn, var.storage_key_arn]
  }
}

resource "aws_iam_policy" "airflow_boundary" {
  name        = "${var.name}-airflow-boundary"
  description = "The most that the Airflow role can be granted"
  policy      = data.aws_iam_policy_document.airflow_boundary.json
}
