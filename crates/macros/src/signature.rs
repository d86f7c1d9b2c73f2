//! The parameters of the function.

use proc_macro2::Span;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Error, FnArg, GenericArgument, Pat, PathArguments, Result, Signature, Type};

/// One parameter.
pub(crate) struct Parameter {
    pub(crate) ty: Type,
    pub(crate) source: Source,
}

/// What a parameter is given.
pub(crate) enum Source {
    /// The context of the attempt.
    Context,
    /// The input of its name. `written` is the type as messages name it.
    Input { name: String, written: String, optional: bool },
}

/// Checks that a function can be a task, and takes its parameters.
pub(crate) fn parameters(signature: &Signature) -> Result<Vec<Parameter>> {
    let refused = [
        (signature.constness.as_ref().map(Spanned::span), "a task cannot be `const`"),
        (signature.unsafety.as_ref().map(Spanned::span), "a task cannot be `unsafe`"),
        (signature.abi.as_ref().map(Spanned::span), "a task cannot be `extern`"),
        (signature.variadic.as_ref().map(Spanned::span), "a task cannot be variadic"),
    ];
    if let Some((span, message)) = refused.into_iter().find_map(|(span, message)| Some((span?, message))) {
        return Err(Error::new(span, message));
    }
    if let Some(generic) = signature.generics.params.first() {
        return Err(Error::new(
            generic.span(),
            "a task cannot be generic: its inputs come as JSON and need one type each",
        ));
    }
    let parameters = signature.inputs.iter().map(parameter).collect::<Result<Vec<_>>>()?;
    let mut contexts = parameters.iter().filter(|parameter| matches!(parameter.source, Source::Context));
    if let (Some(_), Some(second)) = (contexts.next(), contexts.next()) {
        return Err(Error::new(second.ty.span(), "one `TaskContext` is enough"));
    }
    Ok(parameters)
}

fn parameter(argument: &FnArg) -> Result<Parameter> {
    let typed = match argument {
        FnArg::Receiver(receiver) => {
            return Err(Error::new(receiver.span(), "a task has no `self`: it is a function of its inputs"));
        }
        FnArg::Typed(typed) => typed,
    };
    let ident = match &*typed.pat {
        Pat::Ident(pattern) if pattern.by_ref.is_none() && pattern.subpat.is_none() => &pattern.ident,
        other => {
            let message = "the name of a parameter is the name of an input: write a name here, and take the value apart inside";
            return Err(Error::new(other.span(), message));
        }
    };
    let ty = (*typed.ty).clone();
    let source = match peel(&ty) {
        Type::Reference(reference) => {
            let message = match &*reference.elem {
                Type::Path(path) if path.path.is_ident("str") => "an input is owned: write `String`",
                Type::Slice(_) => "an input is owned: write `Vec<...>`",
                _ => "an input is owned: write the type without `&`",
            };
            return Err(Error::new(ty.span(), message));
        }
        Type::ImplTrait(_) => {
            return Err(Error::new(
                ty.span(),
                "an input comes as JSON and needs one type: write it instead of `impl ...`",
            ));
        }
        ty if last_segment(ty).is_some_and(|segment| segment.ident == "TaskContext") => Source::Context,
        ty => {
            let inner = inner_of_option(ty);
            let written = written(inner.unwrap_or(ty));
            Source::Input { name: ident.unraw().to_string(), written, optional: inner.is_some() }
        }
    };
    Ok(Parameter { ty, source })
}

/// Types that a `macro_rules!` passes on come in a group without brackets.
fn peel(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => peel(&group.elem),
        Type::Paren(paren) => peel(&paren.elem),
        ty => ty,
    }
}

fn last_segment(ty: &Type) -> Option<&syn::PathSegment> {
    match ty {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    }
}

fn inner_of_option(ty: &Type) -> Option<&Type> {
    let segment = last_segment(ty).filter(|segment| segment.ident == "Option")?;
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    match arguments.args.first() {
        Some(GenericArgument::Type(inner)) => Some(peel(inner)),
        _ => None,
    }
}

/// A type as its author would write it.
fn written(ty: &Type) -> String {
    let mut text = ty.to_token_stream().to_string();
    for (spaced, close) in
        [(" :: ", "::"), (":: ", "::"), (" < ", "<"), ("< ", "<"), (" >", ">"), (" ,", ",")]
    {
        text = text.replace(spaced, close);
    }
    text
}

/// The place for messages about the whole function.
pub(crate) fn place(signature: &Signature) -> Span {
    signature.ident.span()
}
