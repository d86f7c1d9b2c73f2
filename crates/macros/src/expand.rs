//! What the attribute makes.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, ExprLit, ItemFn, Lit, Meta, Path, Result, ReturnType};

use crate::options::Options;
use crate::signature::{self, Parameter, Source};

pub(crate) fn task(options: TokenStream, function: TokenStream) -> Result<TokenStream> {
    let function: ItemFn = syn::parse2(function).map_err(|error| {
        Error::new(error.span(), format!("a task is made of a function with a body: {error}"))
    })?;
    let options = Options::parse(options)?;
    let parameters = signature::parameters(&function.sig)?;
    let info = info(&function, &options, &parameters);
    let invoke = invoke(&function, &parameters);
    let compensation = options.compensate.as_ref().map(compensation);

    let ItemFn { attrs, vis, sig, block } = &function;
    let ident = &sig.ident;
    let (docs, others): (Vec<_>, Vec<_>) =
        attrs.iter().partition(|attribute| attribute.path().is_ident("doc"));
    let conditions: Vec<_> = attrs.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect();
    let others = others.into_iter().filter(|attribute| !attribute.path().is_ident("cfg"));
    let mut call = sig.clone();
    call.ident = format_ident!("call", span = ident.span());
    Ok(quote! {
        #(#conditions)*
        #(#docs)*
        #[allow(non_camel_case_types)]
        #[derive(Debug, Clone, Copy)]
        #vis struct #ident;

        #(#conditions)*
        impl #ident {
            /// The function itself.
            #(#others)*
            #vis #call #block
        }

        #(#conditions)*
        impl ::taskiq_flow::task::TaskDef for #ident {
            #info
            #invoke
            #compensation
        }
    })
}

fn info(function: &ItemFn, options: &Options, parameters: &[Parameter]) -> TokenStream {
    let name = match &options.name {
        Some(name) => name.value(),
        None => function.sig.ident.unraw().to_string(),
    };
    let outputs: Vec<String> = match &options.outputs {
        Some(outputs) => outputs.iter().map(syn::LitStr::value).collect(),
        None => vec![name.clone()],
    };
    let inputs = parameters.iter().filter_map(|parameter| match &parameter.source {
        Source::Input { name, written, optional } => {
            Some(quote!(::taskiq_flow::task::InputInfo::new(#name, #written, #optional)))
        }
        Source::Context => None,
    });
    let mut settings = Vec::new();
    if let Some(description) = description(&function.attrs) {
        settings.push(quote!(.description(#description)));
    }
    if options.retries > 0 {
        let attempts = options.retries + 1;
        let delay = option(options.delay.as_ref());
        let backoff = option(options.backoff.as_ref());
        let jitter = option(options.jitter.as_ref());
        let max_delay = option(options.max_delay.as_ref());
        settings.push(quote!(.retry(#attempts, #delay, #backoff, #jitter, #max_delay)));
        if options.max_time.is_some() || options.retry_on.is_some() || options.not_on.is_some() {
            let max_time = option(options.max_time.as_ref());
            let only = options.retry_on.iter().flatten();
            let never = options.not_on.iter().flatten();
            settings.push(quote!(.retry_rules(#max_time, &[#(#only),*], &[#(#never),*])));
        }
    }
    if let Some(millis) = options.timeout {
        settings.push(quote!(.timeout(#millis)));
    }
    if let Some(millis) = options.cache {
        let version = option(options.cache_version.as_ref());
        settings.push(quote!(.cache(#millis, #version)));
    }
    if let Some(rule) = options.on_error {
        settings.push(quote!(.on_error(#rule)));
    }
    quote! {
        fn info(&self) -> &'static ::taskiq_flow::task::TaskInfo {
            static INFO: ::taskiq_flow::task::TaskInfo =
                ::taskiq_flow::task::TaskInfo::new(#name, &[#(#inputs),*], &[#(#outputs),*]) #(#settings)*;
            &INFO
        }
    }
}

fn compensation(undo: &Path) -> TokenStream {
    let span = undo.span();
    // The compiler marks what is no task.
    let made = quote_spanned!(span=> ::std::sync::Arc::new(#undo));
    quote! {
        fn compensation(&self) -> ::std::option::Option<::std::sync::Arc<dyn ::taskiq_flow::task::TaskDef>> {
            ::std::option::Option::Some(#made)
        }
    }
}

fn invoke(function: &ItemFn, parameters: &[Parameter]) -> TokenStream {
    let ident = &function.sig.ident;
    // Names of ours must not meet those of the parameters.
    let call = format_ident!("call", span = Span::mixed_site());
    let info = format_ident!("info", span = Span::mixed_site());
    let result = format_ident!("result", span = Span::mixed_site());
    let mut position = 0_usize;
    let values: Vec<_> = (0..parameters.len())
        .map(|index| format_ident!("value_{index}", span = Span::mixed_site()))
        .collect();
    let reads = parameters.iter().zip(&values).map(|(parameter, value)| {
        let ty = &parameter.ty;
        let span = ty.span();
        match &parameter.source {
            Source::Context => quote_spanned!(span=> let #value: #ty = #call.context.clone();),
            Source::Input { optional, .. } => {
                let read = if *optional { "optional_input" } else { "input" };
                // The compiler marks the last part of the path.
                let read = format_ident!("{read}", span = span);
                let at = position;
                position += 1;
                quote_spanned!(span=> let #value: #ty = ::taskiq_flow::task::support::#read(#info, #at, &#call.inputs)?;)
            }
        }
    });
    let reads: Vec<_> = reads.collect();
    let run = match function.sig.asyncness {
        Some(_) => quote!(#ident::call(#(#values),*).await),
        None => quote!(::taskiq_flow::task::support::blocking(move || #ident::call(#(#values),*)).await?),
    };
    let span = match &function.sig.output {
        ReturnType::Default => signature::place(&function.sig),
        ReturnType::Type(_, ty) => ty.span(),
    };
    let finished = format_ident!("finished", span = Span::mixed_site());
    let finish = quote_spanned! {span=>
        let #finished: ::std::result::Result<_, ::taskiq_flow::task::TaskError> =
            (&&&&&::taskiq_flow::task::support::Outcome::new(#result)).finish(#info);
    };
    quote! {
        fn invoke(&self, #call: ::taskiq_flow::task::TaskCall) -> ::taskiq_flow::task::TaskFuture {
            let #info = ::taskiq_flow::task::TaskDef::info(self);
            ::std::boxed::Box::pin(async move {
                #[allow(unused_imports)]
                use ::taskiq_flow::task::support::{
                    FinishError as _, FinishResult as _, FinishValue as _, RefuseResult as _, RefuseValue as _,
                };
                #(#reads)*
                let #result = #run;
                #finish
                #finished
            })
        }
    }
}

fn option<T: quote::ToTokens>(value: Option<&T>) -> TokenStream {
    match value {
        Some(value) => quote!(::std::option::Option::Some(#value)),
        None => quote!(::std::option::Option::None),
    }
}

/// The first paragraph of the documentation, on one line.
fn description(attributes: &[Attribute]) -> Option<String> {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    });
    let lines: Vec<String> = lines.collect();
    let text = lines.join("\n");
    let paragraph = text.trim().split("\n\n").next().unwrap_or_default();
    let paragraph = paragraph.split("\n \n").next().unwrap_or_default();
    let words: Vec<_> = paragraph.split_whitespace().collect();
    (!words.is_empty()).then(|| words.join(" "))
}
