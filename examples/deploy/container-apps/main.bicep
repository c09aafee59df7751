// An app of signalr-upstream in Azure Container Apps, with a SignalR service that calls it. There is no access key:
// the app's identity calls the service, and the service's identity calls the app. See ../README.md.

@description('Image of the app.')
param image string

@description('Of every resource; it becomes part of the address of the service, so it has to be your own.')
@minLength(3)
@maxLength(20)
param name string

param location string = resourceGroup().location

@description('Application id of the registration in Entra ID that the service brings tokens for.')
param audience string

@description('Signs the identities of clients: 32 characters or more, the same for every replica.')
@minLength(32)
@secure()
param sealKey string

@description('Origins of the pages whose clients may connect, with spaces between.')
param corsOrigins string = ''

var port = 8080

// Known before the app is there, so that the service can be told of the app and the app of the service.
var host = '${name}.${environment.properties.defaultDomain}'

// The role "SignalR Service Owner": all of the service's REST API, and keys for the tokens of clients.
var role = '7e4f1700-ea5a-4f59-8f37-079cfe29dce3'

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: name
  location: location
}

resource environment 'Microsoft.App/managedEnvironments@2024-03-01' = {
  name: name
  location: location
  properties: {}
}

resource signalr 'Microsoft.SignalRService/signalR@2024-03-01' = {
  name: name
  location: location
  kind: 'SignalR'
  sku: {
    name: 'Standard_S1'
    capacity: 1
  }
  identity: {
    type: 'SystemAssigned'
  }
  properties: {
    disableLocalAuth: true
    features: [
      {
        flag: 'ServiceMode'
        value: 'Serverless'
      }
    ]
    // signalr-upstream settings app:app --url https://<host> --format bicep --managed-identity <audience>
    upstream: {
      templates: [
        {
          urlTemplate: 'https://${host}/{hub}/{category}/{event}'
          hubPattern: 'chat'
          categoryPattern: 'messages'
          eventPattern: '*'
          auth: {
            type: 'ManagedIdentity'
            managedIdentity: {
              resource: audience
            }
          }
        }
      ]
    }
  }
}

resource access 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(signalr.id, identity.id, role)
  scope: signalr
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
  }
}

resource app 'Microsoft.App/containerApps@2024-03-01' = {
  name: name
  location: location
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identity.id}': {}
    }
  }
  properties: {
    managedEnvironmentId: environment.id
    configuration: {
      secrets: [
        {
          name: 'seal-key'
          value: sealKey
        }
      ]
      ingress: {
        external: true
        targetPort: port
        transport: 'http'
        allowInsecure: false
      }
    }
    template: {
      // More than drain delay, drain timeout and what lies between: see `signalr-upstream run --help`.
      terminationGracePeriodSeconds: 40
      containers: [
        {
          name: 'app'
          image: image
          resources: {
            cpu: json('0.5')
            memory: '1Gi'
          }
          env: [
            {
              name: 'AzureSignalRConnectionString'
              value: 'Endpoint=https://${signalr.properties.hostName};AuthType=azure.msi;ClientId=${identity.properties.clientId};Version=1.0;'
            }
            {
              name: 'TENANT'
              value: tenant().tenantId
            }
            {
              name: 'AUDIENCE'
              value: audience
            }
            {
              name: 'SIGNALR_IDENTITY'
              value: signalr.identity.principalId
            }
            {
              name: 'SEAL_KEY_FILE'
              value: '/secrets/seal-key'
            }
            {
              name: 'CORS_ORIGINS'
              value: corsOrigins
            }
          ]
          volumeMounts: [
            {
              volumeName: 'secrets'
              mountPath: '/secrets'
            }
          ]
          probes: [
            {
              type: 'Startup'
              httpGet: {
                path: '/healthz'
                port: port
              }
              periodSeconds: 2
              failureThreshold: 30
            }
            {
              type: 'Liveness'
              httpGet: {
                path: '/healthz'
                port: port
              }
              periodSeconds: 10
              failureThreshold: 3
            }
            {
              type: 'Readiness'
              httpGet: {
                path: '/readyz'
                port: port
              }
              periodSeconds: 2
              failureThreshold: 1
            }
          ]
        }
      ]
      volumes: [
        {
          name: 'secrets'
          storageType: 'Secret'
          secrets: [
            {
              secretRef: 'seal-key'
              path: 'seal-key'
            }
          ]
        }
      ]
      scale: {
        minReplicas: 2
        maxReplicas: 10
        rules: [
          {
            name: 'calls'
            http: {
              metadata: {
                concurrentRequests: '100'
              }
            }
          }
        ]
      }
    }
  }
}

output url string = 'https://${host}'
