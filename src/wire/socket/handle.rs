//! Answers an event: reads, calls one function of `app`, answers.

use crate::app::App;
use crate::app::session::Session;
use crate::domain::error::{ErrorCode, Failure};
use crate::wire::events::listing::{
    ActivePersonalities, AvailableModels, BindingItem, BindingsList, Categories, Languages,
    NamesList, PersonalitiesList,
};
use crate::wire::events::selection::{
    BindingSelected, ModelSelected, PersonalityActivated, PersonalityAdded, PersonalityFailed,
};
use crate::wire::events::tokens::{Detokenized, Embedded, Tokenized, Unoffered};
use crate::wire::events::{ClientEvent, ClientEventKind, ServerEvent};
use crate::wire::socket::stream;

/// Answers every event but those of generations, which the session keeps itself. `cancelled` ends the wait for a
/// model.
pub async fn handle(
    app: &App,
    session: &mut Session,
    event: ClientEvent,
    cancelled: impl Future<Output = ()>,
) -> ServerEvent {
    match event {
        ClientEvent::ListBindings(_) => list_bindings(app).await,
        ClientEvent::ListPersonalities(_) => match app.list_personalities().await {
            Ok(tree) => ServerEvent::PersonalitiesList(PersonalitiesList::of(tree)),
            Err(failure) => refuse(ClientEventKind::ListPersonalities, failure, ""),
        },
        ClientEvent::ListModels(_) => list_models(app, session).await,
        ClientEvent::ListLanguages(_) => list_languages(app).await,
        ClientEvent::ListCategories(_) => list_categories(app).await,
        ClientEvent::ListNames(query) => list_names(app, &query.category).await,
        ClientEvent::ListActive(_) => ServerEvent::ActivePersonalities(ActivePersonalities {
            success: true,
            personalities: app.list_mounted(session),
            error: None,
        }),
        ClientEvent::SelectBinding(choice) => {
            select_binding(app, session, choice.binding_name).await
        }
        ClientEvent::SelectModel(choice) => {
            let selected = app.select_model(session, &choice.model_name, cancelled).await;
            model_selected(choice.model_name, selected)
        }
        ClientEvent::AddPersonality(choice) => {
            match app.add_personality(session, &choice.path).await {
                Ok((id, name)) => {
                    ServerEvent::PersonalityAdded(PersonalityAdded { success: true, name, id })
                }
                Err(failure) => refuse(ClientEventKind::AddPersonality, failure, ""),
            }
        }
        ClientEvent::ActivatePersonality(choice) => activate(app, session, choice.id).await,
        ClientEvent::Tokenize(text) => match app.tokenize(session, text.prompt).await {
            Ok(tokens) => ServerEvent::Tokenized(Tokenized { tokens, ..Tokenized::default() }),
            Err(failure) => refuse(ClientEventKind::Tokenize, failure, ""),
        },
        ClientEvent::Detokenize(tokens) => match app.detokenize(session, tokens.prompt).await {
            Ok(text) => ServerEvent::Detokenized(Detokenized { text, ..Detokenized::default() }),
            Err(failure) => refuse(ClientEventKind::Detokenize, failure, ""),
        },
        ClientEvent::Embed(text) => match app.embed(session, text.prompt).await {
            Ok(vector) => ServerEvent::Embedded(Embedded { text: vector, ..Embedded::default() }),
            Err(failure) => refuse(ClientEventKind::Embed, failure, ""),
        },
        ClientEvent::VectorizeText(_) => refuse(ClientEventKind::VectorizeText, unoffered(), ""),
        ClientEvent::QueryDatabase(_) => refuse(ClientEventKind::QueryDatabase, unoffered(), ""),
        ClientEvent::GenerateText(_)
        | ClientEvent::CancelGeneration(_)
        | ClientEvent::CancelTextGeneration(_) => stream::canceled(),
    }
}

async fn select_binding(app: &App, session: &mut Session, binding_name: String) -> ServerEvent {
    match app.select_binding(session, &binding_name).await {
        Ok(()) => ServerEvent::BindingSelected(BindingSelected {
            success: true,
            binding_name,
            error: None,
        }),
        Err(failure) => refuse(ClientEventKind::SelectBinding, failure, &binding_name),
    }
}

fn model_selected(model_name: String, selected: Result<(), Failure>) -> ServerEvent {
    match selected {
        Ok(()) => {
            ServerEvent::ModelSelected(ModelSelected { success: true, model_name, error: None })
        }
        Err(failure) => refuse(ClientEventKind::SelectModel, failure, &model_name),
    }
}

async fn list_bindings(app: &App) -> ServerEvent {
    match app.list_bindings().await {
        Ok(entries) => {
            let items = entries.iter().map(|entry| BindingItem {
                name: entry.name.to_string(),
                card: entry.card.clone(),
                models: entry.models.clone(),
            });
            let bindings = items.collect();
            ServerEvent::BindingsList(BindingsList { success: true, bindings, error: None })
        }
        Err(failure) => refuse(ClientEventKind::ListBindings, failure, ""),
    }
}

async fn list_models(app: &App, session: &Session) -> ServerEvent {
    match app.list_available_models(session).await {
        Ok(entries) => ServerEvent::AvailableModels(AvailableModels {
            success: true,
            available_models: entries.into_iter().map(Into::into).collect(),
            error: None,
        }),
        Err(failure) => refuse(ClientEventKind::ListModels, failure, ""),
    }
}

async fn list_languages(app: &App) -> ServerEvent {
    match app.list_languages().await {
        Ok(languages) => ServerEvent::Languages(Languages {
            success: true,
            available_personalities_languages: languages,
            error: None,
        }),
        Err(failure) => refuse(ClientEventKind::ListLanguages, failure, ""),
    }
}

async fn list_categories(app: &App) -> ServerEvent {
    match app.list_categories().await {
        Ok(categories) => ServerEvent::Categories(Categories {
            success: true,
            available_personalities_categories: categories,
            error: None,
        }),
        Err(failure) => refuse(ClientEventKind::ListCategories, failure, ""),
    }
}

async fn list_names(app: &App, category: &str) -> ServerEvent {
    match app.list_names(category).await {
        Ok(names) => ServerEvent::Names(NamesList {
            success: true,
            list_available_personalities_names: names,
            error: None,
        }),
        Err(failure) => refuse(ClientEventKind::ListNames, failure, ""),
    }
}

async fn activate(app: &App, session: &mut Session, id: Option<i64>) -> ServerEvent {
    let activated = match id {
        Some(id) => app.activate_personality(session, id).await,
        None => Err(Failure::new(ErrorCode::InvalidRequest, "missing field `id`")),
    };
    match activated {
        Ok((id, name)) => {
            ServerEvent::PersonalityActivated(PersonalityActivated { success: true, name, id })
        }
        Err(failure) => refuse(ClientEventKind::ActivatePersonality, failure, ""),
    }
}

fn unoffered() -> Failure {
    let message = "this server does not read files that a client names, so this is not offered";
    Failure::new(ErrorCode::Unsupported, message)
}

/// The failure of an event, in the shape that LoLLMs documents for it. `name` is what was to be selected.
pub fn refuse(kind: ClientEventKind, failure: Failure, name: &str) -> ServerEvent {
    let no = Some(false);
    let error = Some(failure.message.clone());
    match kind {
        ClientEventKind::ListBindings => {
            ServerEvent::BindingsList(BindingsList { success: false, bindings: Vec::new(), error })
        }
        ClientEventKind::ListPersonalities => {
            let personalities = std::collections::BTreeMap::new();
            ServerEvent::PersonalitiesList(PersonalitiesList { personalities, success: no, error })
        }
        ClientEventKind::ListModels => ServerEvent::AvailableModels(AvailableModels {
            success: false,
            available_models: Vec::new(),
            error,
        }),
        ClientEventKind::ListLanguages => ServerEvent::Languages(Languages {
            success: false,
            available_personalities_languages: Vec::new(),
            error,
        }),
        ClientEventKind::ListCategories => ServerEvent::Categories(Categories {
            success: false,
            available_personalities_categories: Vec::new(),
            error,
        }),
        ClientEventKind::ListNames => ServerEvent::Names(NamesList {
            success: false,
            list_available_personalities_names: Vec::new(),
            error,
        }),
        ClientEventKind::ListActive => ServerEvent::ActivePersonalities(ActivePersonalities {
            success: false,
            personalities: Vec::new(),
            error,
        }),
        ClientEventKind::SelectBinding => ServerEvent::BindingSelected(BindingSelected {
            success: false,
            binding_name: name.into(),
            error,
        }),
        ClientEventKind::SelectModel => {
            let model_name = name.into();
            ServerEvent::ModelSelected(ModelSelected { success: false, model_name, error })
        }
        ClientEventKind::AddPersonality | ClientEventKind::ActivatePersonality => {
            let error = failure.message;
            ServerEvent::PersonalityFailed(PersonalityFailed { success: false, error })
        }
        ClientEventKind::Tokenize => ServerEvent::Tokenized(Tokenized::failed(failure.message)),
        ClientEventKind::Detokenize => {
            ServerEvent::Detokenized(Detokenized::failed(failure.message))
        }
        ClientEventKind::Embed => ServerEvent::Embedded(Embedded::failed(failure.message)),
        ClientEventKind::VectorizeText => ServerEvent::VectorizedDb(not_offered(failure)),
        ClientEventKind::QueryDatabase => ServerEvent::VectorDbQuery(not_offered(failure)),
        ClientEventKind::GenerateText
        | ClientEventKind::CancelGeneration
        | ClientEventKind::CancelTextGeneration => stream::failed(failure),
    }
}

fn not_offered(failure: Failure) -> Unoffered {
    Unoffered { status: false, success: false, error: failure.message }
}
