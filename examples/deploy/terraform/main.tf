# An app of signalr-upstream in Azure Container Apps, with a SignalR service that calls it. There is no access key:
# the app's identity calls the service, and the service's identity calls the app. See ../README.md.

terraform {
  required_version = ">= 1.5"
  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 4.0"
    }
  }
}

provider "azurerm" {
  features {}
}

variable "name" {
  description = "Of every resource; it becomes part of the address of the service, so it has to be your own."
  type        = string
}

variable "location" {
  type    = string
  default = "westeurope"
}

variable "image" {
  description = "Image of the app."
  type        = string
}

variable "audience" {
  description = "Application id of the registration in Entra ID that the service brings tokens for."
  type        = string
}

variable "seal_key" {
  description = "Signs the identities of clients: 32 characters or more, the same for every replica."
  type        = string
  sensitive   = true
}

variable "cors_origins" {
  description = "Origins of the pages whose clients may connect, with spaces between."
  type        = string
  default     = ""
}

locals {
  # Known before the app is there, so that the service can be told of the app and the app of the service.
  host = "${var.name}.${azurerm_container_app_environment.this.default_domain}"
}

data "azurerm_client_config" "this" {}

resource "azurerm_resource_group" "this" {
  name     = var.name
  location = var.location
}

resource "azurerm_user_assigned_identity" "this" {
  name                = var.name
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
}

resource "azurerm_container_app_environment" "this" {
  name                = var.name
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
}

resource "azurerm_signalr_service" "this" {
  name                = var.name
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  service_mode        = "Serverless"
  local_auth_enabled  = false

  sku {
    name     = "Standard_S1"
    capacity = 1
  }

  identity {
    type = "SystemAssigned"
  }

  # signalr-upstream settings app:app --url https://<host> --format terraform --managed-identity <audience>
  upstream_endpoint {
    category_pattern          = ["messages"]
    event_pattern             = ["*"]
    hub_pattern               = ["chat"]
    url_template              = "https://${local.host}/{hub}/{category}/{event}"
    user_assigned_identity_id = var.audience
  }
}

resource "azurerm_role_assignment" "this" {
  scope                = azurerm_signalr_service.this.id
  role_definition_name = "SignalR Service Owner"
  principal_id         = azurerm_user_assigned_identity.this.principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_container_app" "this" {
  name                         = var.name
  resource_group_name          = azurerm_resource_group.this.name
  container_app_environment_id = azurerm_container_app_environment.this.id
  revision_mode                = "Single"

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.this.id]
  }

  secret {
    name  = "seal-key"
    value = var.seal_key
  }

  ingress {
    external_enabled = true
    target_port      = 8080
    transport        = "http"

    traffic_weight {
      latest_revision = true
      percentage      = 100
    }
  }

  template {
    min_replicas = 2
    max_replicas = 10

    # More than drain delay, drain timeout and what lies between: see `signalr-upstream run --help`.
    termination_grace_period_seconds = 40

    container {
      name   = "app"
      image  = var.image
      cpu    = 0.5
      memory = "1Gi"

      env {
        name  = "AzureSignalRConnectionString"
        value = "Endpoint=https://${azurerm_signalr_service.this.hostname};AuthType=azure.msi;ClientId=${azurerm_user_assigned_identity.this.client_id};Version=1.0;"
      }

      env {
        name  = "TENANT"
        value = data.azurerm_client_config.this.tenant_id
      }

      env {
        name  = "AUDIENCE"
        value = var.audience
      }

      env {
        name  = "SIGNALR_IDENTITY"
        value = azurerm_signalr_service.this.identity[0].principal_id
      }

      env {
        name  = "SEAL_KEY_FILE"
        value = "/secrets/seal-key"
      }

      env {
        name  = "CORS_ORIGINS"
        value = var.cors_origins
      }

      volume_mounts {
        name = "secrets"
        path = "/secrets"
      }

      startup_probe {
        transport               = "HTTP"
        port                    = 8080
        path                    = "/healthz"
        interval_seconds        = 2
        failure_count_threshold = 10
      }

      liveness_probe {
        transport        = "HTTP"
        port             = 8080
        path             = "/healthz"
        interval_seconds = 10
      }

      readiness_probe {
        transport               = "HTTP"
        port                    = 8080
        path                    = "/readyz"
        interval_seconds        = 2
        failure_count_threshold = 1
      }
    }

    volume {
      name         = "secrets"
      storage_type = "Secret"
    }

    http_scale_rule {
      name                = "calls"
      concurrent_requests = "100"
    }
  }
}

output "url" {
  value = "https://${local.host}"
}
